//! Every refusal, and the response to it.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use thiserror::Error;
use tracing::{debug, error};
use utoipa::IntoResponses;

use super::json_line::JsonLine;
use super::problem::{Problem, ProblemType};
use super::refused_stream::TemporaryError;
use super::response_headers;
use crate::auth::Error as AuthError;
use crate::events::{OpenError, StreamLimitReached, StreamRefusal};
use crate::model::Refusal;
use crate::model::{InvalidConnectionId, InvalidUserId};
use crate::store::StoreError;

/// When a client should try again after the store or the keys were out of reach.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// When a client should try again to open a stream after others had to end first.
const RETRY_STREAM: Duration = Duration::from_secs(5);

/// Why a call is refused. Its text is the `detail` of the problem document.
#[derive(Debug, Error)]
pub(crate) enum Error {
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
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("{0}; see Retry-After")]
    TooManyStreams(#[from] StreamLimitReached),
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
    #[error("this instance has no memory left for the call; try again")]
    Overloaded,
    #[error(
        "the request line and the header fields are larger than 16 KiB, or more than 100 fields on HTTP/1; \
         POST /v1/events and POST /v1/online take long lists of ids in their bodies"
    )]
    HeadTooLarge,
    #[error("this is no request of HTTP/1.1 or HTTP/2")]
    NotHttp,
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
    /// What its problem document says about the kind of cause.
    fn problem_type(&self) -> ProblemType {
        use ProblemType as P;
        match self {
            Self::UserId(_) | Self::UserIdNotUtf8 | Self::ListedUserId { .. } => P::InvalidUserId,
            Self::NoUserIds => P::NoUserIds,
            Self::TooManyUserIds { .. } => P::TooManyUserIds,
            Self::ConnectionId(_) | Self::OneOrAll => P::InvalidConnectionId,
            Self::Json(_) => P::InvalidJson,
            Self::Query { .. } | Self::UnknownParameter { .. } => P::InvalidQuery,
            Self::Limit(_) => P::InvalidLimit,
            Self::Cursor => P::InvalidCursor,
            Self::Body => P::UnreadableBody,
            Self::Host(_) => P::InvalidHost,
            Self::NotLocal(_) => P::OpenModeLocalOnly,
            Self::Auth(error) => auth_problem_type(error),
            Self::Refused(Refusal::ConnectionClosed) => P::ConnectionClosed,
            Self::Refused(Refusal::TooManyConnections { .. }) => P::TooManyConnections,
            Self::TooManyStreams(_) => P::TooManyStreams,
            Self::NotFound => P::NotFound,
            Self::MethodNotAllowed => P::MethodNotAllowed,
            Self::BodyTooLarge => P::BodyTooLarge,
            Self::BodyTimeout => P::BodyTimeout,
            Self::UnsupportedMediaType => P::UnsupportedMediaType,
            Self::StoreUnreachable(_) => P::StoreUnreachable,
            Self::StoreOverloaded => P::StoreOverloaded,
            Self::Overloaded => P::Overloaded,
            Self::HeadTooLarge => P::HeadTooLarge,
            Self::NotHttp => P::NotHttp,
            Self::Internal(_) => P::InternalError,
        }
    }

    /// Where the cause passes: what it is, and when it may go better.
    fn temporary(&self) -> Option<TemporaryError> {
        let (cause, wait) = match self {
            Self::StoreUnreachable(_) => (StreamRefusal::StoreUnreachable, RETRY_SOON),
            Self::StoreOverloaded
            | Self::Overloaded
            | Self::Auth(AuthError::KeysUnreachable | AuthError::VerificationOverloaded) => {
                (StreamRefusal::Overloaded, RETRY_SOON)
            }
            Self::TooManyStreams(_) => (StreamRefusal::TooManyStreams, RETRY_STREAM),
            Self::Auth(AuthError::RateLimited(wait)) => (StreamRefusal::Overloaded, *wait),
            _ => return None,
        };
        Some(TemporaryError { cause, wait })
    }

    /// The challenge of RFC 6750, section 3. Without a credential in the request it has no error code.
    fn challenge(&self) -> Option<HeaderValue> {
        use AuthError as A;
        let Self::Auth(error) = self else { return None };
        let challenge = match error {
            A::NoCredential => "Bearer realm=\"presence\"".to_owned(),
            A::TokenExpired | A::BadCredential(_) => format!(
                "Bearer realm=\"presence\", error=\"invalid_token\", error_description=\"{error}\""
            ),
            A::WriteDenied(_) | A::ReadDenied(_) | A::ReadAllDenied | A::MetricsDenied => {
                "Bearer realm=\"presence\", error=\"insufficient_scope\"".to_owned()
            }
            A::RateLimited(_) | A::KeysUnreachable | A::VerificationOverloaded => return None,
        };
        HeaderValue::from_str(&challenge).ok()
    }
}

fn auth_problem_type(error: &AuthError) -> ProblemType {
    use AuthError as A;
    match error {
        A::NoCredential => ProblemType::NoCredential,
        A::TokenExpired => ProblemType::TokenExpired,
        A::BadCredential(_) => ProblemType::BadCredential,
        A::WriteDenied(_) | A::ReadDenied(_) | A::ReadAllDenied | A::MetricsDenied => {
            ProblemType::NotAllowed
        }
        A::RateLimited(_) => ProblemType::TooManyCalls,
        A::KeysUnreachable => ProblemType::KeysUnreachable,
        A::VerificationOverloaded => ProblemType::TooManyTokens,
    }
}

/// An id, the cursor, the limit, the query or the body is not valid; `detail` names what is wrong.
#[derive(IntoResponses)]
#[response(status = 400, content_type = "application/problem+json")]
pub(crate) struct BadRequest(#[allow(dead_code)] Problem);

/// The `Host` header is missing, is there more than once, or is no host.
#[derive(IntoResponses)]
#[response(status = 400, content_type = "application/problem+json")]
pub(super) struct BadHost(#[allow(dead_code)] Problem);

/// No token or key came with the call, or it is not valid; `detail` says which.
#[derive(IntoResponses)]
#[response(
    status = 401,
    content_type = "application/problem+json",
    headers(("WWW-Authenticate" = String, description = "`Bearer`, with an error code of RFC 6750 where a credential came"))
)]
pub(crate) struct Unauthorized(#[allow(dead_code)] Problem);

/// The token or key is valid and does not allow this.
#[derive(IntoResponses)]
#[response(status = 403, content_type = "application/problem+json")]
pub(crate) struct Forbidden(#[allow(dead_code)] Problem);

/// `too-many-connections`: the user has as many live connections as are allowed.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
pub(crate) struct ConnectRefused(#[allow(dead_code)] Problem);

/// `connection-closed`: the connection was closed less than 10 s ago, and `connect` opens it again.
/// `too-many-connections`: the user has as many live connections as are allowed.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
pub(crate) struct PingRefused(#[allow(dead_code)] Problem);

/// The user called too often, or too many streams are open; try again after as many seconds as
/// `Retry-After` says.
#[derive(IntoResponses)]
#[response(
    status = 429,
    content_type = "application/problem+json",
    headers(("Retry-After" = u32, description = "Seconds"))
)]
pub(crate) struct TooMany(#[allow(dead_code)] Problem);

/// The body is over 64 KiB, or over 1 MiB where ids are listed.
#[derive(IntoResponses)]
#[response(status = 413, content_type = "application/problem+json")]
pub(crate) struct BodyTooLarge(#[allow(dead_code)] Problem);

/// The body did not arrive within ten seconds.
#[derive(IntoResponses)]
#[response(status = 408, content_type = "application/problem+json")]
pub(crate) struct BodyTimeout(#[allow(dead_code)] Problem);

/// The request line and the header fields are larger than 16 KiB. `POST /v1/events` takes a long list in its body.
#[derive(IntoResponses)]
#[response(status = 431, content_type = "application/problem+json")]
pub(super) struct HeadTooLarge(#[allow(dead_code)] Problem);

/// The body was not sent as JSON.
#[derive(IntoResponses)]
#[response(status = 415, content_type = "application/problem+json")]
pub(crate) struct UnsupportedMediaType(#[allow(dead_code)] Problem);

/// The store is out of reach; try again after as many seconds as `Retry-After` says.
#[derive(IntoResponses)]
#[response(
    status = 503,
    content_type = "application/problem+json",
    headers(("Retry-After" = u32, description = "Seconds"))
)]
pub(crate) struct StoreUnreachable(#[allow(dead_code)] Problem);

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        Self::new(error.problem_type(), error.to_string())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.problem_type().status();
        match &self {
            Self::Internal(cause) => error!(%cause, "a call failed"),
            // The link to the store says once that it is lost; an outage must not fill a disk.
            Self::StoreUnreachable(cause) => debug!(%cause, "a call found no store"),
            _ => {}
        }
        let (temporary, challenge) = (self.temporary(), self.challenge());
        let mut response = (status, JsonLine(Problem::from(&self))).into_response();
        if let Some(temporary) = temporary {
            response.extensions_mut().insert(temporary);
        }
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, json);
        headers
            .extend(temporary.map(|temporary| (RETRY_AFTER, whole_seconds(temporary.wait).into())));
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
            OpenError::Limit(limit) => limit.into(),
        }
    }
}

pub(crate) async fn not_found() -> Error {
    Error::NotFound
}

pub(crate) async fn method_not_allowed() -> Error {
    Error::MethodNotAllowed
}

/// What a panic is to the client; it ends its own request only.
pub(crate) fn panicked(cause: Box<dyn Any + Send>) -> Error {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
    Error::Internal(text.unwrap_or_else(|| "a panic".to_owned()))
}
