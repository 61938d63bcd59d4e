//! JSON that ends with a newline, so that a terminal shows its prompt below it.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::Error;

/// Room for the usual answer, in bytes; a longer one makes it grow.
const USUAL_BYTES: usize = 256;

/// A value that is sent as one line of JSON.
#[derive(Debug)]
pub(super) struct JsonLine<T>(pub(super) T);

impl<T: Serialize> IntoResponse for JsonLine<T> {
    fn into_response(self) -> Response {
        let mut json = Vec::with_capacity(USUAL_BYTES);
        match serde_json::to_writer(&mut json, &self.0) {
            Ok(()) => {
                json.push(b'\n');
                sent(json)
            }
            Err(error) => Error::Internal(error.to_string()).into_response(),
        }
    }
}

/// The answer that has this JSON text, its newline included.
pub(super) fn sent(json: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(json));
    let content_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
