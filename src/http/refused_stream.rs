//! Refuses streams in a form that an `EventSource` survives.
//!
//! An `EventSource` does not reconnect after a status other than 200 (WHATWG HTML, section 9.2.2).
//! For a temporary error it therefore gets a short stream with the reason, and reconnects by
//! itself.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::media_type::accepts;
use super::response_headers::STREAM_HEADERS;
use crate::events::StreamRefusal;

/// The path of streams.
pub(crate) const EVENTS_PATH: &str = "/v1/events";

/// An extension of every error response whose cause is temporary.
#[derive(Clone, Copy, Debug)]
pub(super) struct TemporaryError {
    pub(super) cause: StreamRefusal,
    /// When the client should try again.
    pub(super) wait: Duration,
}

/// Replaces a temporary error by a short stream, if the client accepts streams.
pub(super) async fn refuse_by_stream(request: Request, next: Next) -> Response {
    let wants_stream = accepts_stream(request.headers());
    let response = next.run(request).await;
    as_stream(response, wants_stream)
}

/// Whether a request asks for a stream, and its client accepts streams.
pub(crate) fn wants_stream(target: &Uri, headers: &HeaderMap) -> bool {
    target.path() == EVENTS_PATH && accepts_stream(headers)
}

/// Replaces a temporary error by a short stream if `wants_stream`.
pub(super) fn as_stream(response: Response, wants_stream: bool) -> Response {
    match response.extensions().get::<TemporaryError>() {
        Some(temporary) if wants_stream => {
            let body = temporary.cause.body(temporary.wait);
            (STREAM_HEADERS, Body::from(body)).into_response()
        }
        _ => response,
    }
}

/// Whether `Accept` names JSON and no event streams. A wildcard does not count.
pub(super) fn accepts_json(headers: &HeaderMap) -> bool {
    accepts(headers, "application/json") && !accepts_stream(headers)
}

/// Whether `Accept` names the media type of event streams. A wildcard does not count.
fn accepts_stream(headers: &HeaderMap) -> bool {
    accepts(headers, "text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use axum::http::header::ACCEPT;

    #[test]
    fn a_list_is_json_that_is_named_without_streams() {
        let accepts = |value| {
            let accept = HeaderValue::from_static(value);
            accepts_json(&HeaderMap::from_iter([(ACCEPT, accept)]))
        };
        for value in [
            "application/json",
            "text/html, Application/JSON; q=0.9, */*",
            "application/json, text/event-stream;q=0",
        ] {
            assert!(accepts(value), "{value}");
        }
        for value in [
            "*/*",
            "application/*",
            "application/json;q=0",
            "application/json, text/event-stream",
            "text/event-stream",
        ] {
            assert!(!accepts(value), "{value}");
        }
    }

    #[test]
    fn only_the_media_type_of_streams_accepts_a_stream() {
        let accepts = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            accepts_stream(&headers)
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
