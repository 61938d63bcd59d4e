//! Why a caller is refused.

use std::time::Duration;

use thiserror::Error;

use crate::model::{GroupId, UserId};

/// Why a caller is refused. The client sees the text, so the text never repeats a credential.
///
/// The texts of [`Error::BadCredential`] and [`Error::TokenExpired`] are also sent as the `error_description` of
/// `WWW-Authenticate`, which allows neither `"` nor `\` (RFC 6750, section 3).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Error {
    /// The request has no credential.
    #[error("missing credential; send a token or an API key as Authorization: Bearer")]
    NoCredential,
    /// The credential is invalid, for the given reason.
    #[error("{0}")]
    BadCredential(&'static str),
    /// The token was valid and has expired. A fresh token is accepted.
    #[error("exp: the token has expired")]
    TokenExpired,
    /// The caller may not connect, ping or disconnect this user.
    #[error("the credential does not allow calls for user {:?}", .0.as_str())]
    WriteDenied(UserId),
    /// The caller may not see this user.
    #[error("the credential does not allow reading user {:?}", .0.as_str())]
    ReadDenied(UserId),
    /// The caller may not see all users.
    #[error("requires scope `presence.read` or claim `watch: \"*\"`")]
    ReadAllDenied,
    /// The caller may not write groups.
    #[error("requires scope `presence.write`")]
    GroupWriteDenied,
    /// The caller may not see this group.
    #[error("the credential does not allow reading group {:?}", .0.as_str())]
    GroupReadDenied(GroupId),
    /// The caller may not join this group by pinging.
    #[error("groups: the credential does not allow joining group {:?}", .0.as_str())]
    GroupJoinDenied(GroupId),
    /// The caller may not see the metrics and the state of the service.
    #[error("requires scope `presence.read`")]
    OperatorDenied,
    /// The caller may not make the service sweep.
    #[error("requires scope `presence.write`")]
    SweepDenied,
    /// The user exceeded the rate limit. The next call is allowed after this time.
    #[error("too many calls; see Retry-After")]
    RateLimited(Duration),
    /// No JWK set has been fetched yet, so no token can be verified.
    #[error("the keys that verify tokens are unreachable; try again")]
    KeysUnreachable,
    /// Too many tokens wait to be verified.
    #[error("too many tokens wait to be verified; try again")]
    VerificationOverloaded,
}

impl Error {
    /// The credential is neither an API key nor a token signed by a known key. A forger learns nothing more.
    pub(super) const INVALID: Self = Self::BadCredential("invalid credential");
}
