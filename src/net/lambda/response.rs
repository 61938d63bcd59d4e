//! From a response to what the runtime API takes.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Error as BodyError;
use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use serde::Serialize;
use tracing::error;

/// What is between the head and the body of a streamed response.
const DELIMITER: Bytes = Bytes::from_static(&[0; 8]);

/// The head of a response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    status_code: u16,
    headers: BTreeMap<String, String>,
    /// The service sets none. Readers of this document expect the field.
    cookies: [String; 0],
}

/// A complete response, in the payload format 2.0 of AWS.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BufferedResponse {
    #[serde(flatten)]
    head: Head,
    body: String,
    is_base64_encoded: bool,
}

/// Returns `response` as one JSON document.
pub(super) async fn buffered(response: Response) -> Vec<u8> {
    let (parts, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            error!(%error, "the body of a response ended early");
            Bytes::new()
        }
    };
    let (body, is_base64_encoded) = match String::from_utf8(body.into()) {
        Ok(text) => (text, false),
        Err(bytes) => (STANDARD.encode(bytes.as_bytes()), true),
    };
    json(&BufferedResponse {
        head: head(parts.status.as_u16(), &parts.headers),
        body,
        is_base64_encoded,
    })
}

/// Returns `response` as its head, a delimiter, and then its body as it arises. Each is a frame of its own: some
/// readers do not look for the delimiter inside a frame.
pub(super) fn streamed(response: Response) -> StreamedResponse {
    let (parts, body) = response.into_parts();
    let head = json(&head(parts.status.as_u16(), &parts.headers));
    StreamedResponse {
        prelude: VecDeque::from([head.into(), DELIMITER]),
        body,
    }
}

/// A response whose parts are sent as they arise.
#[derive(Debug)]
pub(super) struct StreamedResponse {
    /// The frames before the body that were not sent yet.
    prelude: VecDeque<Bytes>,
    body: Body,
}

impl HttpBody for StreamedResponse {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.prelude.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(Frame::data(frame)))),
            None => Pin::new(&mut self.body).poll_frame(context),
        }
    }
}

/// The head of a response. The values of a field that repeats are joined by commas (RFC 9110, section 5.3).
fn head(status_code: u16, fields: &HeaderMap) -> Head {
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in fields {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.to_string())
            .and_modify(|values| {
                values.push_str(", ");
                values.push_str(&value);
            })
            .or_insert_with(|| value.to_string());
    }
    Head {
        status_code,
        headers,
        cookies: [],
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Texts and numbers can always be written.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue, StatusCode};
    use axum::response::{AppendHeaders, IntoResponse};
    use serde_json::{Value, json};

    use super::*;

    const VARY: (HeaderName, HeaderValue) = (
        HeaderName::from_static("vary"),
        HeaderValue::from_static("origin"),
    );

    fn response(body: impl Into<Body>) -> Response {
        let twice = AppendHeaders([VARY, VARY]);
        (StatusCode::NOT_FOUND, twice, body.into()).into_response()
    }

    async fn buffered_json(body: impl Into<Body>) -> Value {
        let bytes = buffered(response(body)).await;
        serde_json::from_slice(&bytes).expect("a document")
    }

    #[tokio::test]
    async fn a_buffered_response_is_one_document() {
        let expected = json!({
            "statusCode": 404, "headers": {"vary": "origin, origin"}, "cookies": [],
            "body": "ü", "isBase64Encoded": false,
        });
        assert_eq!(buffered_json("ü").await, expected);
    }

    #[tokio::test]
    async fn a_body_that_is_not_text_is_encoded() {
        let response = buffered_json(vec![0, 255]).await;
        assert_eq!(response["isBase64Encoded"], true);
        assert_eq!(response["body"], "AP8=");
    }

    #[tokio::test]
    async fn a_streamed_response_begins_with_its_head() {
        let body = streamed(response("text")).collect().await;
        let bytes = body.expect("a body in memory").to_bytes();
        let head = br#"{"statusCode":404,"headers":{"vary":"origin, origin"},"cookies":[]}"#;
        let expected = [&head[..], &DELIMITER[..], b"text"].concat();
        assert_eq!(bytes, expected);
    }
}
