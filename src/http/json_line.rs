//! JSON responses. They end with a newline, so that a terminal shows its prompt on a new line.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::Error;

/// The initial capacity of the buffer, in bytes. Most responses fit.
const CAPACITY: usize = 256;

/// A response with this value as one line of JSON.
#[derive(Debug)]
pub(super) struct JsonLine<T>(pub(super) T);

impl<T: Serialize> IntoResponse for JsonLine<T> {
    fn into_response(self) -> Response {
        let mut json = Vec::with_capacity(CAPACITY);
        match serde_json::to_writer(&mut json, &self.0) {
            Ok(()) => {
                json.push(b'\n');
                let mut response = Response::new(Body::from(json));
                let content_type = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, content_type);
                response
            }
            Err(error) => Error::Internal(error.to_string()).into_response(),
        }
    }
}
