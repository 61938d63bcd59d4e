//! The check of every request before its handler runs: the `Host` header and, in open mode, the origin of the request.
//!
//! In open mode (no credential is configured and `PRESENCE_ALLOW_ANONYMOUS` is not set) every caller has full access,
//! so only requests from this machine are answered. To listen on loopback only is not enough: a browser on this machine
//! sends the requests of any web page, also under a host name that DNS resolves to loopback, and a proxy on this
//! machine forwards requests of other machines.

mod host;

use axum::body::Body;
use axum::http::header::{FORWARDED, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

use self::host::{host_header, is_loopback, is_origin_of};
use super::error::Error;
use crate::config::{Config, CorsOrigins};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The paths that are answered for every request, also in open mode. They change nothing and reveal nothing about
/// users.
const PUBLIC_PATHS: [&str; 6] = [
    "/",
    "/livez",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/dashboard",
];

/// The prefix of further public paths.
const PUBLIC_PREFIX: &str = "/docs/";

/// Decides which requests reach a handler.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    /// In open mode, the allowed origins in addition to the origin of the service.
    open_mode: Option<CorsOrigins>,
}

impl Guard {
    /// A guard for the API with these settings.
    pub(super) fn new(config: &Config) -> Self {
        let allowed = config.http.cors_origins.clone();
        let allowed = allowed.unwrap_or(CorsOrigins::These(Vec::new()));
        Self {
            open_mode: config.auth.is_open_mode().then_some(allowed),
        }
    }

    /// Fails if the request must not reach a handler.
    pub(super) fn check(&self, request: &Request<Body>) -> Result<(), Error> {
        let host = host_header(request)?;
        match &self.open_mode {
            Some(allowed) if !is_public(request.uri().path()) => {
                check_local(allowed, request, host).map_err(Error::NotLocal)
            }
            _ => Ok(()),
        }
    }
}

fn is_public(path: &str) -> bool {
    PUBLIC_PATHS.contains(&path) || path.starts_with(PUBLIC_PREFIX)
}

/// Fails if the request may come from another machine, or from a page of an origin that is not allowed. `host` is the
/// `Host` header.
fn check_local(
    allowed: &CorsOrigins,
    request: &Request<Body>,
    host: Option<&str>,
) -> Result<(), &'static str> {
    let target = request.uri().authority().map(|target| target.as_str());
    if host.is_none() && target.is_none() && request.version() > Version::HTTP_10 {
        return Err("the request names no host");
    }
    if ![host, target].into_iter().flatten().all(is_loopback) {
        return Err("the Host header must be localhost or a loopback address");
    }
    let headers = request.headers();
    if headers.contains_key(FORWARDED) || headers.contains_key(X_FORWARDED_FOR) {
        return Err("the request has a header of a proxy (Forwarded or X-Forwarded-For)");
    }
    if !is_origin_allowed(allowed, headers, target.or(host)) {
        return Err(
            "the request comes from a page of another origin; PRESENCE_CORS_ORIGINS can allow the origin",
        );
    }
    Ok(())
}

/// Whether the request has no `Origin` header, an allowed origin, or the origin of `host`.
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

#[cfg(test)]
mod tests;
