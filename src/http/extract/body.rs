//! Request bodies.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::BytesMut;
use http_body::Body as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::json::parse;
use crate::http::error::Error;

/// The largest body of a call about one user, in bytes.
const BODY_LIMIT: usize = 64 * 1_024;

/// The largest body of a call that takes a list of ids, in bytes.
const LIST_BODY_LIMIT: usize = 1_024 * 1_024;

/// How much of a body is read at most to be able to say that it is too large.
const LINGER_BYTES: u64 = 8 * 1_024 * 1_024;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body that may be missing or null, whatever its content type says.
#[derive(Debug)]
pub(crate) struct OptionalJson<T>(pub(in crate::http) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        let body = read(request.into_body(), BODY_LIMIT).await?;
        if body.is_empty() || body.trim_ascii() == b"null" {
            return Ok(Self(T::default()));
        }
        Ok(Self(parse(&body)?))
    }
}

/// The call takes no body. An empty one, `null` and `{}` say nothing; whatever else is in it is refused, by name where
/// it has names: a client that sends ids there must not be taken for one that asks about everyone.
#[derive(Debug)]
pub(crate) struct NoBody;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let OptionalJson(NoFields {}) = OptionalJson::from_request(request, state).await?;
        Ok(Self)
    }
}

/// A body with a JSON content type, as long as a list may be.
#[derive(Debug)]
pub(crate) struct JsonBody(Bytes);

impl JsonBody {
    /// Reads it, which may take a while, and lets go of its bytes.
    pub(crate) fn parse<T: DeserializeOwned>(self) -> Result<T, Error> {
        parse(&self.0)
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            return Err(Error::UnsupportedMediaType);
        }
        Ok(Self(read(request.into_body(), LIST_BODY_LIMIT).await?))
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Error> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > LINGER_BYTES) {
        return Err(Error::BodyTooLarge);
    }
    // In a place of its own, since nearly every call does without and is not to carry its size.
    let collected = Box::pin(collect(body, limit));
    match timeout(BODY_TIMEOUT, collected).await {
        Ok(body) => body,
        Err(_) => Err(Error::BodyTimeout),
    }
}

/// Reads on for a while when the body is too large, without keeping it: a client that is still
/// sending when the connection closes would never see the answer.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Error> {
    let mut received: u64 = 0;
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| Error::Body)?.into_data() else {
            continue;
        };
        received += data.len() as u64;
        if received > LINGER_BYTES {
            break;
        }
        if received <= limit as u64 {
            bytes.extend_from_slice(&data);
        }
    }
    if received > limit as u64 {
        return Err(Error::BodyTooLarge);
    }
    Ok(bytes.freeze())
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = content_type
        .and_then(|text| text.split(';').next())
        .unwrap_or("");
    let essence = essence.trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}
