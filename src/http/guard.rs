//! What is checked of every request before its handler is called: the `Host` header, and in open mode where the
//! request comes from.
//!
//! Open mode is: no credential is configured, and `PRESENCE_ALLOW_ANONYMOUS` is not set. Then everyone who reaches the
//! service may do everything, so only this machine may reach it. Listening on loopback is not enough for that: a
//! browser on this machine sends requests of any web page (also under a name that its DNS points at loopback), and a
//! proxy on this machine sends requests of anyone.

mod host;

use axum::body::Body;
use axum::http::header::{FORWARDED, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

use self::host::{host_header, is_local, is_origin_of};
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

#[cfg(test)]
mod tests;
