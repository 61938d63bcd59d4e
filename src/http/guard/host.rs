//! The `Host` header, and the comparison of hosts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::body::Body;
use axum::http::header::HOST;
use axum::http::{Request, Version};

use crate::http::error::Error;

/// The `Host` header of a request (RFC 9112, section 3.2, and RFC 9113, section 8.3.1).
pub(super) fn host_header(request: &Request<Body>) -> Result<Option<&str>, Error> {
    let target = request.uri().authority();
    if target.is_some_and(|target| !is_host(target.as_str())) {
        return Err(Error::Host(
            "the target of the request is not a host with an optional port",
        ));
    }
    let mut values = request.headers().get_all(HOST).iter();
    let host = match (values.next(), values.next()) {
        (None, _) if request.version() == Version::HTTP_11 => {
            return Err(Error::Host("HTTP/1.1 requires the header"));
        }
        (None, _) => return Ok(None),
        (Some(_), Some(_)) => return Err(Error::Host("multiple Host headers")),
        (Some(host), None) => host.to_str().ok().filter(|host| is_host(host)),
    };
    let host = host.ok_or(Error::Host("must be a host with an optional port"))?;
    let differs = target.is_some_and(|target| !target.as_str().eq_ignore_ascii_case(host));
    if differs && request.version() >= Version::HTTP_2 {
        return Err(Error::Host("differs from :authority"));
    }
    Ok(Some(host))
}

/// The host, and the rest: empty, or a colon and the port.
fn split_port(text: &str) -> (&str, &str) {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']').map_or(text.len(), |end| end + 2),
        None => text.find(':').unwrap_or(text.len()),
    };
    text.split_at(end)
}

/// Whether `text` is a host with an optional port. An empty text is valid: a target without a host has an empty `Host`.
fn is_host(text: &str) -> bool {
    let (host, port) = split_port(text);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte);
    let is_address = |byte: u8| byte.is_ascii_alphanumeric() || b":.".contains(&byte);
    let is_valid = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
        Some(address) => address.is_some_and(|address| address.bytes().all(is_address)),
        None => host.bytes().all(is_name),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    is_valid && digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this host, with an optional port, is always this machine. Only `localhost` and loopback addresses are: DNS
/// can resolve any other name to loopback.
pub(super) fn is_loopback(text: &str) -> bool {
    let (host, _) = split_port(text);
    let ipv6 = host.strip_prefix('[');
    if let Some(address) = ipv6.and_then(|host| host.strip_suffix(']')) {
        let address = address.parse::<Ipv6Addr>();
        return address.is_ok_and(|address| IpAddr::from(address).to_canonical().is_loopback());
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return address.is_loopback();
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    name.eq_ignore_ascii_case("localhost")
}

/// Whether a page from `host` has this origin. A missing port is the default port of the scheme.
pub(super) fn is_origin_of(origin: &str, host: &str) -> bool {
    let (origin_host, default_port) = match origin.split_once("://") {
        Some(("http", rest)) => (rest, ":80"),
        Some(("https", rest)) => (rest, ":443"),
        _ => return false,
    };
    let with_port = |text| match split_port(text) {
        (host, "" | ":") => (host.to_ascii_lowercase(), default_port),
        (host, port) => (host.to_ascii_lowercase(), port),
    };
    with_port(origin_host) == with_port(host)
}
