//! Every refusal, and the response to it.

use std::any::Any;
use std::fmt;

use thiserror::Error;

use super::problem::ProblemType;
use crate::auth::Error as AuthError;
use crate::events::{Full, OpenError};
use crate::model::Refusal;
use crate::model::{InvalidConnectionId, InvalidUserId};
use crate::store::StoreError;

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
    TooManyStreams(#[from] Full),
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
    pub(super) fn problem_type(&self) -> ProblemType {
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
