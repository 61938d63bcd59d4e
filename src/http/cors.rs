//! Which pages may call from a browser.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::CorsOrigins;

/// How long a browser may remember the answer to a preflight; browsers cap it at two hours or less.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// What a resuming `EventSource` sends.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Lets pages of `origins` call. Credentials in the sense of the fetch standard, cookies, are not
/// part of it: a page sets the `Authorization` header itself.
pub(super) fn layer(origins: &CorsOrigins) -> CorsLayer {
    let allowed = match origins {
        CorsOrigins::Any => AllowOrigin::any(),
        CorsOrigins::These(origins) => {
            let values = origins.iter().map(|origin| HeaderValue::from_str(origin));
            AllowOrigin::list(values.flatten())
        }
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, LAST_EVENT_ID])
        .expose_headers([RETRY_AFTER, WWW_AUTHENTICATE])
        .max_age(MAX_AGE)
}
