//! How much of an HTTP/1 request has arrived.
//!
//! This decides only when a request is given to hyper. hyper parses the request itself, and refuses invalid requests.

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue, Uri};
use httparse::{EMPTY_HEADER, Request, Status};

use crate::http::refused_stream::{self, EVENTS_PATH};

/// The longest request, with its body, that is waited for. In bytes.
const MAX_BYTES: usize = 16 * 1_024;

/// The most header fields, as in hyper.
const MAX_FIELDS: usize = 100;

/// How much of a request has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A part of the head.
    PartialHead,
    /// The head and a part of a short body.
    PartialBody,
    /// The head of a request whose body is long, has no known length, or waits for `100 Continue`.
    LongBody,
    /// The whole request, or bytes that hyper refuses.
    Complete,
    /// The preface of HTTP/2.
    Http2,
}

/// Returns how much of an HTTP/1 request these bytes are.
pub(super) fn received(bytes: &[u8]) -> Received {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = Request::new(&mut fields);
    let head = match request.parse(bytes) {
        Ok(Status::Complete(head)) => head,
        Ok(Status::Partial) if bytes.len() < MAX_BYTES => return Received::PartialHead,
        Ok(Status::Partial) | Err(_) => return Received::Complete,
    };
    let mut body = 0;
    for field in request.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("transfer-encoding") || is("expect") {
            return Received::LongBody;
        }
        if is("content-length") {
            let text = std::str::from_utf8(field.value).ok();
            body = text.and_then(|text| text.parse().ok()).unwrap_or(0);
        }
    }
    match head.saturating_add(body) {
        whole if whole <= bytes.len() => Received::Complete,
        whole if whole > MAX_BYTES => Received::LongBody,
        _ => Received::PartialBody,
    }
}

/// Whether a request asks for a stream by its query.
pub(super) fn asks_for_stream(bytes: &[u8]) -> bool {
    let target = bytes.strip_prefix(b"GET ");
    let rest = target.and_then(|target| target.strip_prefix(EVENTS_PATH.as_bytes()));
    rest.is_some_and(|rest| rest.starts_with(b" ") || rest.starts_with(b"?"))
}

/// Whether the refusal of a request must be a stream. `bytes` begin with the head.
pub(super) fn is_refused_by_stream(bytes: &[u8]) -> bool {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = Request::new(&mut fields);
    let Ok(Status::Complete(_)) = request.parse(bytes) else {
        return false;
    };
    let values = request.headers.iter();
    let values = values.filter(|field| field.name.eq_ignore_ascii_case(ACCEPT.as_str()));
    let values = values.filter_map(|field| HeaderValue::from_bytes(field.value).ok());
    let accept: HeaderMap = values.map(|value| (ACCEPT, value)).collect();
    let target = request.path.and_then(|target| target.parse().ok());
    target.is_some_and(|target: Uri| refused_stream::wants_stream(&target, &accept))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

    #[test]
    fn a_short_body_belongs_to_a_complete_request() {
        let short = format!("{POST}Content-Length: 4\r\n\r\n");
        assert_eq!(received(b""), Received::PartialHead);
        assert_eq!(received(POST.as_bytes()), Received::PartialHead);
        assert_eq!(received(short.as_bytes()), Received::PartialBody);
        for body in ["null", "nullGET /", "null\r\n"] {
            let whole = format!("{short}{body}");
            assert_eq!(received(whole.as_bytes()), Received::Complete);
        }
    }

    #[test]
    fn only_a_get_of_the_events_path_asks_for_a_stream() {
        for target in ["/v1/events", "/v1/events?userIds=a"] {
            let request = format!("GET {target} HTTP/1.1\r\n");
            assert!(asks_for_stream(request.as_bytes()));
        }
        for request in [
            "HEAD /v1/events HTTP/1.1",
            "GET /v1/eventsource ",
            "GET /v1/",
        ] {
            assert!(!asks_for_stream(request.as_bytes()), "{request}");
        }
    }

    #[test]
    fn an_event_source_is_refused_by_a_stream() {
        let refused = |line: &str, accept: &str| {
            let request = format!("{line} HTTP/1.1\r\nHost: a\r\naCCept: {accept}\r\n\r\n");
            is_refused_by_stream(request.as_bytes())
        };
        for line in [
            "GET /v1/events?userIds=a",
            "GET http://a/v1/events",
            "POST /v1/events",
        ] {
            assert!(refused(line, "text/event-stream"), "{line}");
            assert!(!refused(line, "*/*"), "{line}");
        }
        assert!(!refused("GET /v1/online", "text/event-stream"));
    }

    #[test]
    fn long_bodies_and_invalid_requests_are_not_waited_for() {
        for rest in [
            "Content-Length: 1000000",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue\r\nContent-Length: 1",
        ] {
            let head = format!("{POST}{rest}\r\n\r\n");
            assert_eq!(received(head.as_bytes()), Received::LongBody);
        }
        let long = format!("{POST}X: {}", "x".repeat(MAX_BYTES));
        for refused in ["\x16\x03\x01", "no request\r\n", &*long] {
            assert_eq!(received(refused.as_bytes()), Received::Complete);
        }
    }
}
