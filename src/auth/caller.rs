//! The caller of a request and its permissions.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::api_keys::ApiKey;
use super::error::Error;
use super::rate_limit::Allowance;
use super::token::{Groups, Token, Watch};
use super::verifying_key::VerifyingKey;
use crate::model::{Credential, GroupId, UserId};

/// The sender of a request, as its credential proves.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// No credentials are configured: every caller has full access.
    Anonymous,
    /// A user with a token.
    User(Arc<User>),
    /// A server or dashboard with an API key.
    Server(Arc<ApiKey>),
}

/// A user that calls with a token.
#[derive(Debug)]
pub(crate) struct User {
    pub(super) token: Token,
    /// The key that verified the token.
    pub(super) key: Arc<VerifyingKey>,
    pub(super) allowance: Arc<Allowance>,
}

impl User {
    /// Whether the token is still valid: the token has not expired, and its key is still in the JWK set.
    pub(super) fn is_valid(&self) -> bool {
        !self.token.is_expired() && !self.key.is_retired()
    }
}

impl Caller {
    /// Fails unless the caller may act for `user`.
    pub(crate) fn authorize_write(&self, user: &UserId) -> Result<(), Error> {
        let is_allowed = match self {
            Self::Anonymous => true,
            Self::User(caller) => caller.token.user == *user,
            Self::Server(key) => key.scopes.write,
        };
        allow_if(is_allowed, || Error::WriteDenied(user.clone()))
    }

    /// Fails unless the caller may see `user`.
    pub(crate) fn authorize_read(&self, user: &UserId) -> Result<(), Error> {
        let is_allowed = match self {
            Self::Anonymous => true,
            Self::User(caller) => caller.token.user == *user || caller.token.watch.includes(user),
            Self::Server(key) => key.scopes.read,
        };
        allow_if(is_allowed, || Error::ReadDenied(user.clone()))
    }

    /// Fails unless the caller may see each of `users`. The error names the first user that the caller may not see.
    pub(crate) fn authorize_read_each(&self, users: &[UserId]) -> Result<(), Error> {
        users.iter().try_for_each(|user| self.authorize_read(user))
    }

    /// Fails unless the caller may see all users.
    pub(crate) fn authorize_read_all(&self) -> Result<(), Error> {
        let is_allowed = match self {
            Self::Anonymous => true,
            Self::User(caller) => matches!(caller.token.watch, Watch::Everyone),
            Self::Server(key) => key.scopes.read,
        };
        allow_if(is_allowed, || Error::ReadAllDenied)
    }

    /// Fails unless the caller may write the stored members of groups.
    pub(crate) fn authorize_write_groups(&self) -> Result<(), Error> {
        let is_allowed = match self {
            Self::Anonymous => true,
            Self::User(_) => false,
            Self::Server(key) => key.scopes.write,
        };
        allow_if(is_allowed, || Error::GroupWriteDenied)
    }

    /// Fails unless the caller may see `group`. Returns the user that has to be a member of the group now, if the
    /// caller may see only its own groups.
    pub(crate) fn authorize_read_group(&self, group: &GroupId) -> Result<Option<&UserId>, Error> {
        let is_allowed = match self {
            Self::Anonymous => true,
            Self::User(caller) => match &caller.token.groups {
                Groups::Own => return Ok(Some(&caller.token.user)),
                Groups::All => true,
                Groups::These(groups) => groups.binary_search(group).is_ok(),
            },
            Self::Server(key) => key.scopes.read,
        };
        allow_if(is_allowed, || Error::GroupReadDenied(group.clone()))?;
        Ok(None)
    }

    /// Fails unless the caller may connect and ping into each of `groups`, for a user for which it may call.
    pub(crate) fn authorize_join(&self, groups: &[GroupId]) -> Result<(), Error> {
        let Self::User(caller) = self else {
            return Ok(());
        };
        let is_denied = |group: &&GroupId| match &caller.token.join {
            Groups::These(allowed) => allowed.binary_search(group).is_err(),
            Groups::All => false,
            Groups::Own => true,
        };
        match groups.iter().find(is_denied) {
            Some(group) => Err(Error::GroupJoinDenied(group.clone())),
            None => Ok(()),
        }
    }

    /// The user of the caller, if its streams cover its own groups unless they name others.
    pub(crate) fn with_own_groups(&self) -> Option<&UserId> {
        match self {
            Self::User(caller) if caller.token.groups == Groups::Own => Some(&caller.token.user),
            Self::Anonymous | Self::User(_) | Self::Server(_) => None,
        }
    }

    /// Fails unless the caller may make the service sweep.
    pub(crate) fn authorize_sweep(&self) -> Result<(), Error> {
        let is_allowed = match self {
            Self::Anonymous => true,
            Self::User(_) => false,
            Self::Server(key) => key.scopes.write,
        };
        allow_if(is_allowed, || Error::SweepDenied)
    }

    /// Fails unless the caller may see the metrics and the state of the service.
    pub(crate) fn authorize_operator(&self) -> Result<(), Error> {
        let is_allowed = match self {
            Self::Anonymous => true,
            Self::User(_) => false,
            Self::Server(key) => key.scopes.read,
        };
        allow_if(is_allowed, || Error::OperatorDenied)
    }

    /// The name under which the streams of the caller are counted. `None`: only the limit of the instance applies.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        match self {
            Self::Anonymous => None,
            Self::User(caller) => Some(format!("user {}", caller.token.user).into()),
            Self::Server(key) => Some(format!("key {}", key.name).into()),
        }
    }

    /// The credential on which the streams of the caller depend. `None`: the credential cannot be withdrawn.
    pub(crate) fn credential(&self) -> Option<Arc<dyn Credential>> {
        match self {
            Self::User(caller) => Some(Arc::clone(&caller.key) as Arc<dyn Credential>),
            Self::Anonymous | Self::Server(_) => None,
        }
    }

    /// When the credential expires. `None`: never, or too far in the future for an [`Instant`].
    pub(crate) fn expires(&self) -> Option<Instant> {
        let Self::User(caller) = self else {
            return None;
        };
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(caller.token.expires))?;
        let left = expires.duration_since(SystemTime::now());
        Instant::now().checked_add(left.unwrap_or_default())
    }
}

fn allow_if(is_allowed: bool, denied: impl FnOnce() -> Error) -> Result<(), Error> {
    if is_allowed { Ok(()) } else { Err(denied()) }
}
