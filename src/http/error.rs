//! Every refusal, as a problem document of RFC 9457, from one table.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use thiserror::Error;
use tracing::{debug, error};
use utoipa::{IntoResponses, ToSchema};

use super::auth::Refused;
use super::refused_stream::Passing;
use super::response_headers;
use crate::events::{Full, OpenError, Refusal as StreamRefusal};
use crate::presence::{InvalidConnectionId, InvalidUserId, UserId};
use crate::store::{Refusal, StoreError};

/// When a client should try again after the store or the keys were out of reach.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// When a client should try again to open a stream after others had to end first.
const RETRY_STREAM: Duration = Duration::from_secs(5);

/// Why a call is refused. Its text is the `detail` of the problem document.
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error("userId: {0}")]
    UserId(#[from] InvalidUserId),
    #[error("userId: it is not UTF-8")]
    UserIdNotUtf8,
    #[error("userIds[{index}]: {why}")]
    ListedUserId { index: usize, why: InvalidUserId },
    #[error("userIds: name at least one")]
    NoUserIds,
    #[error("userIds: {given} are given and at most {limit} allowed")]
    TooManyUserIds { given: usize, limit: usize },
    #[error("connectionId: {0}")]
    ConnectionId(#[from] InvalidConnectionId),
    #[error("connectionId: name one or ask for all, not both")]
    OneOrAll,
    #[error("{0}")]
    Json(String),
    #[error("{field}: {why}")]
    Query {
        field: &'static str,
        why: &'static str,
    },
    #[error("{name}: this call has no such query parameter; {}", Takes(known))]
    UnknownParameter {
        name: String,
        known: &'static [&'static str],
    },
    #[error("limit: a number from 1 to {0}")]
    Limit(usize),
    #[error("cursor: it is not the nextCursor of an earlier page")]
    Cursor,
    #[error("the body could not be read")]
    Body,
    #[error("Host: {0}")]
    Host(&'static str),
    #[error(
        "no credential is configured, so only this machine is served: {0}. \
         Configure a credential, or set PRESENCE_ALLOW_ANONYMOUS=true to serve everyone"
    )]
    NotLocal(&'static str),
    #[error("send a token or key as Authorization: Bearer")]
    NoCredential,
    #[error("{0}")]
    BadCredential(&'static str),
    #[error("the credential is not for user {:?}", .0.as_str())]
    MayNotActFor(UserId),
    #[error("the credential does not let you see user {:?}", .0.as_str())]
    MayNotSee(UserId),
    #[error("to see everyone takes the scope presence.read, or the claim watch with an asterisk")]
    MayNotSeeEveryone,
    #[error("to see the metrics takes the scope presence.read")]
    MayNotSeeMetrics,
    #[error("{0}")]
    Refused(Refusal),
    #[error("too many calls; see Retry-After")]
    TooManyCalls(Duration),
    #[error("{0}; see Retry-After")]
    TooManyStreams(#[from] Full),
    #[error("the keys that verify tokens are out of reach; try again")]
    KeysUnreachable,
    #[error("there is nothing at this path")]
    NotFound,
    #[error("the path exists, but not for this method; see Allow")]
    MethodNotAllowed,
    #[error("the body is larger than this call takes")]
    BodyTooLarge,
    #[error("the body did not arrive in time")]
    BodyTimeout,
    #[error("the body must be JSON, sent as application/json")]
    UnsupportedMediaType,
    #[error("the store is out of reach; try again")]
    StoreUnreachable(String),
    #[error("too many calls wait for the store; try again")]
    StoreOverloaded,
    #[error("something went wrong here; it was logged")]
    Internal(String),
}

/// Which parameters a call takes, in words.
struct Takes<'a>(&'a [&'static str]);

impl fmt::Display for Takes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("it takes none"),
            known => write!(f, "it takes {}", known.join(", ")),
        }
    }
}

impl Error {
    /// Status, name of the problem type, and title. Both names are stable.
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::UserId(_) | Self::UserIdNotUtf8 | Self::ListedUserId { .. } => {
                (S::BAD_REQUEST, "invalid-user-id", "Invalid user id")
            }
            Self::NoUserIds => (S::BAD_REQUEST, "no-user-ids", "No user ids"),
            Self::TooManyUserIds { .. } => {
                (S::BAD_REQUEST, "too-many-user-ids", "Too many user ids")
            }
            Self::ConnectionId(_) | Self::OneOrAll => (
                S::BAD_REQUEST,
                "invalid-connection-id",
                "Invalid connection id",
            ),
            Self::Json(_) => (S::BAD_REQUEST, "invalid-json", "Invalid JSON"),
            Self::Query { .. } | Self::UnknownParameter { .. } => {
                (S::BAD_REQUEST, "invalid-query", "Invalid query parameter")
            }
            Self::Limit(_) => (S::BAD_REQUEST, "invalid-limit", "Invalid limit"),
            Self::Cursor => (S::BAD_REQUEST, "invalid-cursor", "Invalid cursor"),
            Self::Body => (S::BAD_REQUEST, "unreadable-body", "Unreadable body"),
            Self::Host(_) => (S::BAD_REQUEST, "invalid-host", "Invalid Host header"),
            Self::NotLocal(_) => (
                S::FORBIDDEN,
                "open-mode-local-only",
                "Open mode serves this machine only",
            ),
            Self::NoCredential => (S::UNAUTHORIZED, "no-credential", "No credential"),
            Self::BadCredential(_) => (S::UNAUTHORIZED, "bad-credential", "Bad credential"),
            Self::MayNotActFor(_)
            | Self::MayNotSee(_)
            | Self::MayNotSeeEveryone
            | Self::MayNotSeeMetrics => (S::FORBIDDEN, "not-allowed", "Not allowed"),
            Self::Refused(Refusal::ConnectionClosed) => {
                (S::CONFLICT, "connection-closed", "Connection closed")
            }
            Self::Refused(Refusal::TooManyConnections { .. }) => {
                (S::CONFLICT, "too-many-connections", "Too many connections")
            }
            Self::TooManyCalls(_) => (S::TOO_MANY_REQUESTS, "too-many-calls", "Too many calls"),
            Self::TooManyStreams(_) => {
                (S::TOO_MANY_REQUESTS, "too-many-streams", "Too many streams")
            }
            Self::KeysUnreachable => (
                S::SERVICE_UNAVAILABLE,
                "keys-unreachable",
                "Keys unreachable",
            ),
            Self::NotFound => (S::NOT_FOUND, "not-found", "Not found"),
            Self::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
            ),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large"),
            Self::BodyTimeout => (S::REQUEST_TIMEOUT, "body-timeout", "Body timeout"),
            Self::UnsupportedMediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Unsupported media type",
            ),
            Self::StoreUnreachable(_) => (
                S::SERVICE_UNAVAILABLE,
                "store-unreachable",
                "Store unreachable",
            ),
            Self::StoreOverloaded => (
                S::SERVICE_UNAVAILABLE,
                "store-overloaded",
                "Store overloaded",
            ),
            Self::Internal(_) => (S::INTERNAL_SERVER_ERROR, "internal-error", "Internal error"),
        }
    }

    /// Where the cause passes: what it is, and when it may go better.
    fn passing(&self) -> Option<Passing> {
        let (cause, wait) = match self {
            Self::StoreUnreachable(_) => (StreamRefusal::StoreUnreachable, RETRY_SOON),
            Self::StoreOverloaded | Self::KeysUnreachable => (StreamRefusal::Overloaded, RETRY_SOON),
            Self::TooManyStreams(_) => (StreamRefusal::TooManyStreams, RETRY_STREAM),
            Self::TooManyCalls(wait) => (StreamRefusal::Overloaded, *wait),
            _ => return None,
        };
        Some(Passing { cause, wait })
    }

    /// What to bring, as RFC 6750, section 3, has it: no error code where nothing was brought.
    fn challenge(&self) -> Option<HeaderValue> {
        let challenge = match self {
            Self::NoCredential => "Bearer realm=\"presence\"".to_owned(),
            Self::BadCredential(why) => format!(
                "Bearer realm=\"presence\", error=\"invalid_token\", error_description=\"{why}\""
            ),
            Self::MayNotActFor(_)
            | Self::MayNotSee(_)
            | Self::MayNotSeeEveryone
            | Self::MayNotSeeMetrics => {
                "Bearer realm=\"presence\", error=\"insufficient_scope\"".to_owned()
            }
            _ => return None,
        };
        HeaderValue::from_str(&challenge).ok()
    }
}

/// A problem document of RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// The cause, stable: `urn:presence:problem:` and a name.
    #[serde(rename = "type")]
    #[schema(format = "uri", example = "urn:presence:problem:invalid-user-id")]
    kind: String,
    /// The cause in words, the same for every problem of the type.
    #[schema(example = "Invalid user id")]
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 400)]
    status: u16,
    /// What is wrong with this request; names the field.
    #[schema(example = "userId: a user id has 1 to 128 bytes of UTF-8")]
    detail: String,
}

/// A bad id, cursor, limit, query or JSON, none or too many ids.
#[derive(IntoResponses)]
#[response(status = 400, content_type = "application/problem+json")]
pub(super) struct BadRequest(#[allow(dead_code)] Problem);

/// No token or key came with the call, or it is not valid; `detail` says which.
#[derive(IntoResponses)]
#[response(
    status = 401,
    content_type = "application/problem+json",
    headers(("WWW-Authenticate" = String, description = "`Bearer`, with an error code of RFC 6750 where a credential came"))
)]
pub(super) struct Unauthorized(#[allow(dead_code)] Problem);

/// The token or key is valid and does not allow this.
#[derive(IntoResponses)]
#[response(status = 403, content_type = "application/problem+json")]
pub(super) struct Forbidden(#[allow(dead_code)] Problem);

/// `too-many-connections`: the user has as many live connections as are allowed.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
pub(super) struct ConnectRefused(#[allow(dead_code)] Problem);

/// `connection-closed`: the connection was closed less than 10 s ago, and `connect` opens it again.
/// `too-many-connections`: the user has as many live connections as are allowed.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
pub(super) struct PingRefused(#[allow(dead_code)] Problem);

/// The user called too often, or too many streams are open; try again after as many seconds as
/// `Retry-After` says.
#[derive(IntoResponses)]
#[response(
    status = 429,
    content_type = "application/problem+json",
    headers(("Retry-After" = u32, description = "Seconds"))
)]
pub(super) struct TooMany(#[allow(dead_code)] Problem);

/// The body is over 64 KiB, or over 1 MiB where ids are listed.
#[derive(IntoResponses)]
#[response(status = 413, content_type = "application/problem+json")]
pub(super) struct BodyTooLarge(#[allow(dead_code)] Problem);

/// The body did not arrive within ten seconds.
#[derive(IntoResponses)]
#[response(status = 408, content_type = "application/problem+json")]
pub(super) struct BodyTimeout(#[allow(dead_code)] Problem);

/// The body was not sent as JSON.
#[derive(IntoResponses)]
#[response(status = 415, content_type = "application/problem+json")]
pub(super) struct UnsupportedMediaType(#[allow(dead_code)] Problem);

/// The store is out of reach; try again after as many seconds as `Retry-After` says.
#[derive(IntoResponses)]
#[response(
    status = 503,
    content_type = "application/problem+json",
    headers(("Retry-After" = u32, description = "Seconds"))
)]
pub(super) struct StoreUnreachable(#[allow(dead_code)] Problem);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind();
        match &self {
            Self::Internal(cause) => error!(%cause, "a call failed"),
            // The link to the store says once that it is lost; an outage must not fill a disk.
            Self::StoreUnreachable(cause) => debug!(%cause, "a call found no store"),
            _ => {}
        }
        let (passing, challenge) = (self.passing(), self.challenge());
        let problem = Problem {
            kind: format!("urn:presence:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: self.to_string(),
        };
        let mut response = (status, Json(problem)).into_response();
        if let Some(passing) = passing {
            response.extensions_mut().insert(passing);
        }
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, json);
        headers.extend(passing.map(|passing| (RETRY_AFTER, whole_seconds(passing.wait).into())));
        headers.extend(challenge.map(|challenge| (WWW_AUTHENTICATE, challenge)));
        response_headers::add_missing(headers);
        response
    }
}

/// Seconds, rounded up, since a client must not come back too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1_000).max(1) as u64
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unreachable(cause) => Self::StoreUnreachable(cause),
            StoreError::Overloaded => Self::StoreOverloaded,
            StoreError::Failed(cause) => Self::Internal(cause),
            StoreError::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => error.into(),
            OpenError::Full(full) => full.into(),
        }
    }
}

impl From<Refused> for Error {
    fn from(Refused(why): Refused) -> Self {
        Self::BadCredential(why)
    }
}

pub(super) async fn not_found() -> Error {
    Error::NotFound
}

pub(super) async fn method_not_allowed() -> Error {
    Error::MethodNotAllowed
}

/// A panic ends its own request only.
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
    Error::Internal(text.unwrap_or_else(|| "a panic".to_owned())).into_response()
}
