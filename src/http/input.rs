//! Outside bytes become domain types here, or a refusal that names the field.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::Error;
use crate::presence::UserId;

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

/// A JSON body that may be missing, whatever its content type says.
#[derive(Debug)]
pub(super) struct OptionalJson<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let body = Bytes::from_request(request, state).await?;
        if body.is_empty() {
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

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            return Err(Error::UnsupportedMediaType);
        }
        let body = Bytes::from_request(request, state).await?;
        Ok(Self(parse(&body)?))
    }
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

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
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
