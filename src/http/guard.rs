//! What is checked of every request before its handler is called: the `Host` header, and in open mode where the
//! request comes from.
//!
//! Open mode is: no credential is configured, and `PRESENCE_ALLOW_ANONYMOUS` is not set. Then everyone who reaches the
//! service may do everything, so only this machine may reach it. Listening on loopback is not enough for that: a
//! browser on this machine sends requests of any web page (also under a name that its DNS points at loopback), and a
//! proxy on this machine sends requests of anyone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::body::Body;
use axum::http::header::{FORWARDED, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

use super::error::Error;
use crate::config::{Config, CorsOrigins};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is served to everyone, in open mode too. It changes nothing and tells nothing about users.
const PUBLIC_PATHS: [&str; 4] = ["/livez", "/readyz", "/openapi.json", "/docs"];

/// The folder of the pages that are served to everyone.
const PUBLIC_FOLDER: &str = "/docs/";

/// Decides which requests reach a handler.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    /// In open mode, the origins that are allowed besides the service's own.
    open_mode: Option<CorsOrigins>,
}

impl Guard {
    /// A guard for the API, with these settings.
    pub(super) fn new(config: &Config) -> Self {
        let allowed = config.http.cors_origins.clone();
        let allowed = allowed.unwrap_or(CorsOrigins::These(Vec::new()));
        Self {
            open_mode: config.auth.is_open_mode().then_some(allowed),
        }
    }

    /// Fails if the request must not reach a handler.
    pub(super) fn check(&self, request: &Request<Body>) -> Result<(), Error> {
        let header = host_header(request)?;
        let Some(allowed) = &self.open_mode else {
            return Ok(());
        };
        let path = request.uri().path();
        if PUBLIC_PATHS.contains(&path) || path.starts_with(PUBLIC_FOLDER) {
            return Ok(());
        }
        let target = request.uri().authority().map(|target| target.as_str());
        if header.is_none() && target.is_none() && request.version() > Version::HTTP_10 {
            return Err(Error::NotLocal("the request names no host"));
        }
        if ![header, target].into_iter().flatten().all(is_local) {
            return Err(Error::NotLocal(
                "the Host header must be localhost or a loopback address",
            ));
        }
        let headers = request.headers();
        if headers.contains_key(FORWARDED) || headers.contains_key(X_FORWARDED_FOR) {
            return Err(Error::NotLocal(
                "the request came through a proxy (Forwarded or X-Forwarded-For is there)",
            ));
        }
        if !is_origin_allowed(allowed, headers, target.or(header)) {
            return Err(Error::NotLocal(
                "the page that sent the request is of another origin; PRESENCE_CORS_ORIGINS can allow it",
            ));
        }
        Ok(())
    }
}

/// Whether no page sent the request, or a page of an allowed origin, or a page of `host` itself.
fn is_origin_allowed(allowed: &CorsOrigins, headers: &HeaderMap, host: Option<&str>) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let (first, second) = (origins.next(), origins.next());
    match (allowed, first.map(HeaderValue::to_str), second) {
        (_, None, _) | (CorsOrigins::Any, _, _) => true,
        (CorsOrigins::These(_), Some(Ok(origin)), None) => {
            allowed.allow(origin) || host.is_some_and(|host| is_origin_of(origin, host))
        }
        _ => false,
    }
}

/// The `Host` header of a request (RFC 9112, section 3.2, and RFC 9113, section 8.3.1).
fn host_header(request: &Request<Body>) -> Result<Option<&str>, Error> {
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
fn is_local(text: &str) -> bool {
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
fn is_origin_of(origin: &str, host: &str) -> bool {
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

#[cfg(test)]
mod tests;
