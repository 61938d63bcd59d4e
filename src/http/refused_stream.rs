//! Streams that cannot be opened now, for clients that read nothing but streams.
//!
//! A browser's `EventSource` never comes back after a status other than 200 (WHATWG HTML, 9.2.2). So where the cause
//! passes, it is told the cause by a short stream, and comes back by itself.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::response_headers::STREAM_HEADERS;
use crate::events::StreamRefusal;

/// Part of the response of every error whose cause passes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    pub(super) cause: StreamRefusal,
    /// When the client should try again.
    pub(super) wait: Duration,
}

/// Replaces an error whose cause passes, where the client asks for a stream.
pub(super) async fn tell_by_a_stream(request: Request, next: Next) -> Response {
    let wants_a_stream = accepts_a_stream(request.headers());
    let response = next.run(request).await;
    match response.extensions().get::<Passing>() {
        Some(passing) if wants_a_stream => {
            let body = passing.cause.body(passing.wait);
            (STREAM_HEADERS, Body::from(body)).into_response()
        }
        _ => response,
    }
}

/// Whether `Accept` names the media type of event streams; a wildcard does not.
fn accepts_a_stream(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let names_it = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        // A weight of zero means "not acceptable" (RFC 9110, section 12.4.2).
        let refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse() == Ok(0.0))
        });
        media_type.eq_ignore_ascii_case("text/event-stream") && !refused
    };
    ranges.into_iter().any(names_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_stream_is_accepted_by_its_name_alone() {
        let accepts = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            accepts_a_stream(&headers)
        };
        for values in [
            &["text/event-stream"][..],
            &["Text/Event-Stream;q=0.5"],
            &["application/json, text/event-stream"],
            &["application/json", "text/event-stream; charset=utf-8"],
        ] {
            assert!(accepts(values), "{values:?}");
        }
        for values in [
            &[][..],
            &["*/*"],
            &["text/*"],
            &["application/json"],
            &["text/event-stream;q=0"],
            &["text/event-stream; q=0.0"],
            &["text/event-streams"],
        ] {
            assert!(!accepts(values), "{values:?}");
        }
    }
}
