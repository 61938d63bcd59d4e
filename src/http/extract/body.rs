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

/// The largest body with a list of ids, in bytes.
const LIST_BODY_LIMIT: usize = 1_024 * 1_024;

/// The most that is read of a body that is too large, in bytes. A client that still sends when the connection closes
/// might not see the response.
const DISCARD_LIMIT: u64 = 8 * 1_024 * 1_024;

/// The time limit for the arrival of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// An optional JSON body, which may also be `null`. The content type is not checked.
#[derive(Debug)]
pub(crate) struct OptionalJson<T>(pub(crate) T);

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

/// Refuses any body except an empty body, `null` and `{}`. The error names the first field. A client that sends ids to
/// a call without a body must not receive the response for all users.
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

/// A body with a JSON content type, of at most 1 MiB.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            return Err(Error::UnsupportedMediaType);
        }
        let body = read(request.into_body(), LIST_BODY_LIMIT).await?;
        Ok(Self(parse(&body)?))
    }
}

/// A body with a JSON content type, of at most 64 KiB.
#[derive(Debug)]
pub(crate) struct ShortJsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ShortJsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            return Err(Error::UnsupportedMediaType);
        }
        let body = read(request.into_body(), BODY_LIMIT).await?;
        Ok(Self(parse(&body)?))
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Error> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > DISCARD_LIMIT) {
        return Err(Error::BodyTooLarge);
    }
    // Boxed, because most requests have no body. Without the box, the futures of all handlers would be larger.
    let collected = Box::pin(collect(body, limit));
    let body = timeout(BODY_TIMEOUT, collected).await;
    body.unwrap_or(Err(Error::BodyTimeout))
}

/// Collects a body of at most `limit` bytes. Reads and discards up to [`DISCARD_LIMIT`] bytes of a body that is too
/// large.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Error> {
    let mut received: u64 = 0;
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| Error::UnreadableBody)?.into_data() else {
            continue;
        };
        received += data.len() as u64;
        if received > DISCARD_LIMIT {
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

/// Whether the media type is `application/json` or has the suffix `+json` (RFC 6839).
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|text| text.split(';').next());
    let media_type = media_type.unwrap_or("").trim().to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}
