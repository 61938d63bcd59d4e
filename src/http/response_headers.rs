//! Headers of responses.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The headers of every response. Presence is often private and soon out of date, so caches must not store it. No
/// response may be embedded in a page.
const DEFAULT_HEADERS: [(HeaderName, HeaderValue); 3] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
];

/// nginx does not buffer a response with this header and the value `no`.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The headers of every stream. `no-transform` forbids proxies to compress: a compressing proxy would delay events.
pub(super) const STREAM_HEADERS: [(HeaderName, HeaderValue); 3] = [
    (
        CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    ),
    (
        CACHE_CONTROL,
        HeaderValue::from_static("no-store, no-transform"),
    ),
    (ACCEL_BUFFERING, HeaderValue::from_static("no")),
];

/// Adds the default headers that the response does not have yet.
pub(super) fn add_default_headers(headers: &mut HeaderMap) {
    for (name, value) in DEFAULT_HEADERS {
        headers.entry(name).or_insert(value);
    }
}
