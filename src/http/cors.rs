//! CORS: the pages of other origins that may call the service.

use std::time::Duration;

use axum::http::Method;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::config::CorsOrigins;

/// How long a browser may cache the response to a preflight request. Browsers limit it to two hours or less.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// Allows pages of `origins` to call, with any request header: the headers of tracing libraries are not known in
/// advance. Credentials in the sense of the Fetch standard (cookies) are not allowed: a page sets the `Authorization`
/// header itself.
pub(super) fn layer(origins: &CorsOrigins) -> CorsLayer {
    let allowed = match origins {
        CorsOrigins::Any => AllowOrigin::any(),
        CorsOrigins::These(_) => {
            let origins = origins.clone();
            AllowOrigin::predicate(move |origin, _| {
                origin.to_str().is_ok_and(|origin| origins.allow(origin))
            })
        }
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([RETRY_AFTER, WWW_AUTHENTICATE])
        .max_age(MAX_AGE)
}
