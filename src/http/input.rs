//! Outside bytes become domain types here, or a refusal that names the field.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use bytes::BytesMut;
use http_body::Body as _;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::Error;
use crate::presence::UserId;

/// The largest body of a call about one user, in bytes.
const BODY_LIMIT: usize = 64 * 1_024;

/// The largest body of a call that takes a list of ids, in bytes.
const LIST_BODY_LIMIT: usize = 1_024 * 1_024;

/// How much of a body is read at most to be able to say that it is too large.
const LINGER_BYTES: u64 = 8 * 1_024 * 1_024;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The `{userId}` of the path, percent-decoded and checked.
#[derive(Debug)]
pub(super) struct UserPath(pub(super) UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Error::UserIdNotUtf8)?;
        Ok(Self(UserId::new(&text)?))
    }
}

/// A JSON body that may be missing or null, whatever its content type says.
#[derive(Debug)]
pub(super) struct OptionalJson<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        let body = read(request, BODY_LIMIT).await?;
        if body.is_empty() || body.trim_ascii() == b"null" {
            return Ok(Self(T::default()));
        }
        Ok(Self(parse(&body)?))
    }
}

/// A JSON body with a JSON content type.
#[derive(Debug)]
pub(super) struct RequiredJson<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for RequiredJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            return Err(Error::UnsupportedMediaType);
        }
        let body = read(request, LIST_BODY_LIMIT).await?;
        Ok(Self(parse(&body)?))
    }
}

async fn read(request: Request, limit: usize) -> Result<Bytes, Error> {
    let length = request.body().size_hint().exact();
    if length.is_some_and(|length| length > LINGER_BYTES) {
        return Err(Error::BodyTooLarge);
    }
    match timeout(BODY_TIMEOUT, collect(request.into_body(), limit)).await {
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

/// Reads an object; serde would take a list of the fields' values for one.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return Err(Error::Json("body: a JSON object is expected".to_owned()));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "body".to_owned() } else { path };
        Error::Json(format!("{path}: {}", error.inner()))
    })?;
    reader
        .end()
        .map_err(|error| Error::Json(format!("body: {error}")))?;
    Ok(value)
}

/// Decodes a value as forms do, where a plus is a space; bytes that are not UTF-8 are refused.
pub(super) fn decoded(field: &'static str, value: &str) -> Result<String, Error> {
    let spaced = value.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| Error::Query {
        field,
        why: "it is not UTF-8",
    })
}

/// Checks a list of at least one and at most `limit` user ids.
pub(super) fn user_ids<T: AsRef<str>>(texts: &[T], limit: usize) -> Result<Vec<UserId>, Error> {
    if texts.is_empty() {
        return Err(Error::NoUserIds);
    }
    if texts.len() > limit {
        let given = texts.len();
        return Err(Error::TooManyUserIds { given, limit });
    }
    let checked = texts.iter().enumerate().map(|(index, text)| {
        UserId::new(text.as_ref()).map_err(|why| Error::ListedUserId { index, why })
    });
    checked.collect()
}
