//! The headers that every response has, whatever it says.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Presence is out of date at once and often private; no response is a page, or part of another page.
const DEFAULTS: [(HeaderName, HeaderValue); 3] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
];

/// nginx passes a response on at once where this header says no.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The headers of every stream. A proxy that compresses would hold every event back.
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

/// Adds the headers that the response does not have yet.
pub(super) fn add_missing(headers: &mut HeaderMap) {
    for (name, value) in DEFAULTS {
        headers.entry(name).or_insert(value);
    }
}
