//! The head of a response that is written without hyper.

use std::time::SystemTime;

use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use axum::http::response::Parts;
use bytes::BytesMut;

/// How the end of a body is found (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By the number of bytes.
    Length(usize),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// Encodes a head that tells the client that the connection is closed after the response.
pub(super) fn head_bytes(head: &Parts, framing: Framing) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(512);
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(head.status.as_str().as_bytes());
    let reason = head.status.canonical_reason().unwrap_or_default();
    bytes.extend_from_slice(format!(" {reason}\r\n").as_bytes());
    for (name, value) in &head.headers {
        if [CONTENT_LENGTH, CONNECTION, DATE, TRANSFER_ENCODING].contains(name) {
            continue;
        }
        header(&mut bytes, name.as_str(), value.as_bytes());
    }
    let date = httpdate::fmt_http_date(SystemTime::now());
    header(&mut bytes, "date", date.as_bytes());
    header(&mut bytes, "connection", b"close");
    match framing {
        Framing::Length(count) => {
            header(&mut bytes, "content-length", count.to_string().as_bytes());
        }
        Framing::Chunked => header(&mut bytes, "transfer-encoding", b"chunked"),
        Framing::UntilClose => {}
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn header(bytes: &mut BytesMut, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}
