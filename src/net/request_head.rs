//! How much of an HTTP/1 request has arrived.
//!
//! This only decides when a request is given to hyper, which reads it itself: what it is, hyper decides.

use httparse::{EMPTY_HEADER, Request, Status};

/// The most that is waited for: of a head, and of a request with its body.
const MOST: usize = 16 * 1_024;

/// As many fields as hyper takes.
const FIELDS: usize = 100;

/// Where streams are opened.
pub(super) const EVENTS_PATH: &str = "/v1/events";

/// What is yet to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// A part of the head.
    Head,
    /// A part of a short body.
    Body,
    /// Nothing that is worth waiting for: also where hyper is to refuse it, or the body is long.
    Nothing,
}

/// The body that a head announces.
enum Announced {
    /// So many bytes after so many bytes of head.
    Length(usize, usize),
    /// Nobody knows how many, or its client waits to be asked for it.
    OpenEnded,
    Unknown(Missing),
}

/// What is missing of the request that begins with these bytes.
pub(super) fn missing(bytes: &[u8]) -> Missing {
    match announced(bytes) {
        Announced::Length(head, body) => match head.saturating_add(body) {
            whole if whole <= bytes.len() || whole > MOST => Missing::Nothing,
            _ => Missing::Body,
        },
        Announced::OpenEnded => Missing::Nothing,
        Announced::Unknown(missing) => missing,
    }
}

/// Whether the request that begins with these bytes asks for a stream by its query.
pub(super) fn asks_for_a_stream(bytes: &[u8]) -> bool {
    let target = bytes.strip_prefix(b"GET ");
    let rest = target.and_then(|target| target.strip_prefix(EVENTS_PATH.as_bytes()));
    rest.is_some_and(|rest| rest.starts_with(b" ") || rest.starts_with(b"?"))
}

/// Whether a body follows that is long, or whose length is not known.
pub(super) fn is_open_ended(bytes: &[u8]) -> bool {
    match announced(bytes) {
        Announced::Length(head, body) => head.saturating_add(body) > bytes.len(),
        Announced::OpenEnded => true,
        Announced::Unknown(_) => false,
    }
}

fn announced(bytes: &[u8]) -> Announced {
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut request = Request::new(&mut fields);
    let head = match request.parse(bytes) {
        Ok(Status::Complete(head)) => head,
        Ok(Status::Partial) if bytes.len() < MOST => return Announced::Unknown(Missing::Head),
        Ok(Status::Partial) | Err(_) => return Announced::Unknown(Missing::Nothing),
    };
    let mut length = 0;
    for field in request.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("transfer-encoding") || is("expect") {
            return Announced::OpenEnded;
        }
        if is("content-length") {
            let text = std::str::from_utf8(field.value).ok();
            length = text.and_then(|text| text.parse().ok()).unwrap_or(0);
        }
    }
    Announced::Length(head, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

    #[test]
    fn a_request_is_waited_for_with_its_short_body() {
        let short = format!("{POST}Content-Length: 4\r\n\r\n");
        assert_eq!(missing(b""), Missing::Head);
        assert_eq!(missing(POST.as_bytes()), Missing::Head);
        assert_eq!(missing(short.as_bytes()), Missing::Body);
        for body in ["null", "nullGET /", "null\r\n"] {
            let whole = format!("{short}{body}");
            assert_eq!(missing(whole.as_bytes()), Missing::Nothing);
            assert!(!is_open_ended(whole.as_bytes()));
        }
    }

    #[test]
    fn a_request_for_a_stream_is_told_from_others() {
        for target in ["/v1/events", "/v1/events?userIds=a"] {
            let request = format!("GET {target} HTTP/1.1\r\n");
            assert!(asks_for_a_stream(request.as_bytes()));
        }
        for request in [
            "HEAD /v1/events HTTP/1.1",
            "GET /v1/eventsource ",
            "GET /v1/",
        ] {
            assert!(!asks_for_a_stream(request.as_bytes()), "{request}");
        }
    }

    #[test]
    fn what_is_long_or_no_request_is_not_waited_for() {
        for rest in [
            "Content-Length: 1000000",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue\r\nContent-Length: 1",
        ] {
            let head = format!("{POST}{rest}\r\n\r\n");
            assert_eq!(missing(head.as_bytes()), Missing::Nothing);
            assert!(is_open_ended(head.as_bytes()));
        }
        let long = format!("{POST}X: {}", "x".repeat(MOST));
        for refused in ["\x16\x03\x01", "no request\r\n", &*long] {
            assert_eq!(missing(refused.as_bytes()), Missing::Nothing);
        }
    }
}
