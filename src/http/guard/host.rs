//! Hosts: the `Host` header, and which hosts are this machine.

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
            "that of the target is not a host with an optional port",
        ));
    }
    let mut values = request.headers().get_all(HOST).iter();
    let host = match (values.next(), values.next()) {
        (None, _) if request.version() == Version::HTTP_11 => {
            return Err(Error::Host("HTTP/1.1 requires it"));
        }
        (None, _) => return Ok(None),
        (Some(_), Some(_)) => return Err(Error::Host("it is there more than once")),
        (Some(host), None) => host.to_str().ok().filter(|host| is_host(host)),
    };
    let host = host.ok_or(Error::Host("it is not a host with an optional port"))?;
    let differs = target.is_some_and(|target| !target.as_str().eq_ignore_ascii_case(host));
    if differs && request.version() >= Version::HTTP_2 {
        return Err(Error::Host("it differs from :authority"));
    }
    Ok(Some(host))
}

/// The host, and what comes after it.
fn split_port(text: &str) -> (&str, &str) {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']').map_or(text.len(), |end| end + 2),
        None => text.find(':').unwrap_or(text.len()),
    };
    text.split_at(end)
}

/// Whether this is a host with an optional port. It may be empty, as where a target has no host.
fn is_host(text: &str) -> bool {
    let (host, port) = split_port(text);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte);
    let is_address = |byte: u8| byte.is_ascii_alphanumeric() || b":.".contains(&byte);
    let good_host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
        Some(address) => address.is_some_and(|address| address.bytes().all(is_address)),
        None => host.bytes().all(is_name),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    good_host && digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this host, with an optional port, can only be this machine, whatever DNS says.
pub(super) fn is_local(text: &str) -> bool {
    let (host, _) = split_port(text);
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        let address = address.parse::<Ipv6Addr>();
        return address.is_ok_and(|address| IpAddr::from(address).to_canonical().is_loopback());
    }
    match host.parse::<Ipv4Addr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let name = host.strip_suffix('.').unwrap_or(host);
            name.eq_ignore_ascii_case("localhost")
        }
    }
}

/// Whether a page that was loaded from this host has this origin. The port is part of an origin.
pub(super) fn is_origin_of(origin: &str, host: &str) -> bool {
    let same = |rest: &str, default_port: &str| {
        let with_port = |text| {
            let (host, port) = split_port(text);
            let is_default = port.is_empty() || port == ":";
            (
                host.to_ascii_lowercase(),
                if is_default { default_port } else { port }.to_owned(),
            )
        };
        with_port(rest) == with_port(host)
    };
    match origin.split_once("://") {
        Some(("http", rest)) => same(rest, ":80"),
        Some(("https", rest)) => same(rest, ":443"),
        _ => false,
    }
}
