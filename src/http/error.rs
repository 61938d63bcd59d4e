//! The errors of the HTTP layer.

use std::any::Any;
use std::fmt;

use thiserror::Error;

use super::problem::ProblemType;
use crate::auth::Error as AuthError;
use crate::events::{OpenError, StreamLimitReached};
use crate::model::{GroupRefusal, InvalidConnectionId, InvalidId, Refusal};
use crate::store::StoreError;

/// Why a request is refused. The text is the `detail` of the problem document.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("userId: {0}")]
    UserId(InvalidId),
    #[error("userId: must be UTF-8")]
    UserIdNotUtf8,
    #[error("{field}[{index}]: {why}")]
    ListedUserId {
        field: &'static str,
        index: usize,
        why: InvalidId,
    },
    #[error("userIds: must contain at least one id")]
    NoUserIds,
    #[error("userIds: contains {given} ids; the limit is {limit}")]
    TooManyUserIds { given: usize, limit: usize },
    #[error("groupId: {0}")]
    GroupId(InvalidId),
    #[error("groupId: must be UTF-8")]
    GroupIdNotUtf8,
    #[error("groupIds[{index}]: {why}")]
    ListedGroupId { index: usize, why: InvalidId },
    #[error("groupIds: must contain at least one id")]
    NoGroupIds,
    #[error("groupIds: contains {given} ids; the limit is {limit}")]
    TooManyGroupIds { given: usize, limit: usize },
    #[error("groups: contains {given} ids; the limit is {limit}")]
    TooManyStatedGroups { given: usize, limit: usize },
    #[error("groups[{index}]: {why}")]
    StatedGroup { index: usize, why: InvalidId },
    #[error("{field}: contains {given} ids; the limit is {limit}")]
    TooManyMembers {
        field: &'static str,
        given: usize,
        limit: usize,
    },
    #[error("add: contains user {0:?}, which `remove` contains too")]
    AddedAndRemoved(String),
    #[error("connectionId: {0}")]
    ConnectionId(#[from] InvalidConnectionId),
    #[error("connectionId: must be absent if `all` is true")]
    ConnectionIdAndAll,
    #[error("ttlMs: must be a number from {least} to {most}")]
    InvalidTtl { least: u64, most: u64 },
    #[error("graceMs: must be a number from {least} to {most}")]
    InvalidGrace { least: u64, most: u64 },
    #[error(
        "graceMs: must be absent if `all` is true, because a disconnect of all connections takes effect at once"
    )]
    GraceAndAll,
    #[error("{0}")]
    InvalidStatus(&'static str),
    #[error("ttlMs: must be a number from {least} to {most}")]
    InvalidStatusTtl { least: u64, most: u64 },
    #[error("{0}")]
    Json(String),
    #[error("{field}: {why}")]
    Query {
        field: &'static str,
        why: &'static str,
    },
    #[error("{name}: no such query parameter; {}", Accepted(known))]
    UnknownParameter {
        name: String,
        known: &'static [&'static str],
    },
    #[error("limit: must be a number from 1 to {0}")]
    InvalidLimit(usize),
    #[error("cursor: must be the nextCursor of an earlier page")]
    InvalidCursor,
    #[error("cannot read the body")]
    UnreadableBody,
    #[error("Host: {0}")]
    Host(&'static str),
    #[error(
        "no credential is configured, so the service answers only requests from its own machine: {0}. \
         Configure a credential, or set PRESENCE_ALLOW_ANONYMOUS=true to give every caller full access"
    )]
    NotLocal(&'static str),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("{field}: {refusal}")]
    GroupRefused {
        field: &'static str,
        refusal: GroupRefusal,
    },
    #[error("{0}; see Retry-After")]
    TooManyStreams(#[from] StreamLimitReached),
    #[error(
        "the platform of this service sends no response before it is complete, so it carries no event stream; \
         with Accept: application/json it lists the events"
    )]
    StreamsUnsupported,
    #[error("no such path")]
    NotFound,
    #[error("the path does not support this method; see Allow")]
    MethodNotAllowed,
    #[error("the body is larger than the limit of this call")]
    BodyTooLarge,
    #[error("the body did not arrive in time")]
    BodyTimeout,
    #[error("the Content-Type of the body must be application/json")]
    UnsupportedMediaType,
    #[error("the store is unreachable; try again")]
    StoreUnreachable(String),
    #[error("{0}")]
    NotReady(String),
    #[error("too many calls wait for the store; try again")]
    StoreOverloaded,
    #[error("this instance has not enough free memory for the call; try again")]
    Overloaded,
    #[error(
        "the head of the request is larger than 16 KiB, or has more than 100 fields on HTTP/1; \
         POST /v1/events and POST /v1/online accept long lists of ids in the body"
    )]
    HeadTooLarge,
    #[error("not a request of HTTP/1 or HTTP/2")]
    NotHttp,
    #[error("internal error; the log of the service contains the cause")]
    Internal(String),
}

/// A sentence with the parameters that a call accepts.
struct Accepted<'a>(&'a [&'static str]);

impl fmt::Display for Accepted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("this call accepts none"),
            known => write!(f, "this call accepts {}", known.join(", ")),
        }
    }
}

impl Error {
    /// The type of the problem document.
    pub(super) fn problem_type(&self) -> ProblemType {
        use ProblemType as P;
        match self {
            Self::UserId(_) | Self::UserIdNotUtf8 | Self::ListedUserId { .. } => P::InvalidUserId,
            Self::AddedAndRemoved(_) => P::InvalidJson,
            Self::NoUserIds => P::NoUserIds,
            Self::GroupId(_) | Self::GroupIdNotUtf8 | Self::ListedGroupId { .. } => {
                P::InvalidGroupId
            }
            Self::NoGroupIds => P::NoGroupIds,
            Self::TooManyGroupIds { .. } => P::TooManyGroupIds,
            Self::TooManyStatedGroups { .. } | Self::StatedGroup { .. } => P::InvalidGroups,
            Self::TooManyMembers { .. } => P::TooManyMembers,
            Self::TooManyUserIds { .. } => P::TooManyUserIds,
            Self::ConnectionId(_) | Self::ConnectionIdAndAll => P::InvalidConnectionId,
            Self::InvalidTtl { .. } => P::InvalidTtl,
            Self::InvalidGrace { .. } | Self::GraceAndAll => P::InvalidGrace,
            Self::InvalidStatus(_) | Self::InvalidStatusTtl { .. } => P::InvalidStatus,
            Self::Json(_) => P::InvalidJson,
            Self::Query { .. } | Self::UnknownParameter { .. } => P::InvalidQuery,
            Self::InvalidLimit(_) => P::InvalidLimit,
            Self::InvalidCursor => P::InvalidCursor,
            Self::UnreadableBody => P::UnreadableBody,
            Self::Host(_) => P::InvalidHost,
            Self::NotLocal(_) => P::OpenModeLocalOnly,
            Self::Auth(error) => auth_problem_type(error),
            Self::Refused(Refusal::ConnectionClosed) => P::ConnectionClosed,
            Self::Refused(Refusal::TooManyConnections { .. }) => P::TooManyConnections,
            Self::GroupRefused { refusal, .. } => match refusal {
                GroupRefusal::TooManyMembers { .. } => P::TooManyMembers,
                GroupRefusal::TooManyGroups { .. } => P::TooManyGroups,
            },
            Self::TooManyStreams(_) => P::TooManyStreams,
            Self::StreamsUnsupported => P::StreamsUnsupported,
            Self::NotFound => P::NotFound,
            Self::MethodNotAllowed => P::MethodNotAllowed,
            Self::BodyTooLarge => P::BodyTooLarge,
            Self::BodyTimeout => P::BodyTimeout,
            Self::UnsupportedMediaType => P::UnsupportedMediaType,
            Self::StoreUnreachable(_) | Self::NotReady(_) => P::StoreUnreachable,
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
        A::WriteDenied(_)
        | A::ReadDenied(_)
        | A::ReadAllDenied
        | A::GroupWriteDenied
        | A::GroupReadDenied(_)
        | A::GroupJoinDenied(_)
        | A::OperatorDenied
        | A::SweepDenied => ProblemType::NotAllowed,
        A::RateLimited(_) => ProblemType::TooManyCalls,
        A::KeysUnreachable => ProblemType::KeysUnreachable,
        A::VerificationOverloaded => ProblemType::TooManyTokens,
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unreachable(cause)
            | StoreError::Unfit(cause)
            | StoreError::Forbidden(cause) => Self::StoreUnreachable(cause),
            StoreError::Overloaded => Self::StoreOverloaded,
            StoreError::Failed(cause) => Self::Internal(cause),
            StoreError::Refused(refusal) => Self::Refused(refusal),
            StoreError::GroupRefused(refusal) => Self::GroupRefused {
                field: "members",
                refusal,
            },
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

/// The handler of unknown paths.
pub(super) async fn not_found() -> Error {
    Error::NotFound
}

/// The handler of unknown methods of known paths.
pub(super) async fn method_not_allowed() -> Error {
    Error::MethodNotAllowed
}

/// The error of a request whose handler panicked with `cause`.
pub(crate) fn panicked(cause: Box<dyn Any + Send>) -> Error {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
    Error::Internal(text.unwrap_or_else(|| "a panic without a text".to_owned()))
}
