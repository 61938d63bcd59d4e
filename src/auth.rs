//! Who calls, and what that caller may do.
//!
//! A handler asks for what it needs as an argument: [`ActingFor`] a user, [`Disconnecting`] or [`Seeing`] a user,
//! [`SeeingEveryone`], or the [`Caller`] itself where the request's body names the users.

mod access;
mod checks;
mod claims;
mod jwks;
mod keys;
mod limits;
mod tokens;
mod trust;
mod verifying;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

pub(crate) use self::access::Access;
use self::keys::ApiKey;
use self::limits::Allowance;
pub(crate) use self::limits::Counted;
pub(crate) use self::verifying::Refused;
use self::verifying::VerifyingKey;
use crate::http::error::Error;
use crate::model::Credential;
use crate::model::UserId;

/// Whoever sent a request, as its credential proves.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// No credential is configured: everyone may everything.
    Anonymous,
    /// A user with a token of its own.
    User(Arc<User>),
    /// A server or dashboard with an API key.
    Server(Arc<ApiKey>),
}

/// A user who calls.
#[derive(Debug)]
pub(crate) struct User {
    token: Token,
    allowance: Arc<Allowance>,
}

/// What a verified token says.
#[derive(Debug)]
struct Token {
    user: UserId,
    watch: Watch,
    /// When it expires, in seconds since the Unix epoch.
    expires: u64,
    /// What verified it.
    key: Arc<VerifyingKey>,
}

impl Token {
    /// Whether it counts still: it has not expired, and its key has not left its JWK set.
    fn counts(&self) -> bool {
        self.expires > unix_now() && !self.key.is_retired()
    }
}

/// Whom a user may see besides itself.
#[derive(Debug)]
pub(crate) enum Watch {
    /// These, sorted.
    Users(Box<[UserId]>),
    /// Everyone.
    Everyone,
}

impl Watch {
    fn includes(&self, user: &UserId) -> bool {
        match self {
            Self::Users(users) => users.binary_search(user).is_ok(),
            Self::Everyone => true,
        }
    }
}

impl Caller {
    pub(crate) fn may_act_for(&self, user: &UserId) -> Result<(), Error> {
        let may = match self {
            Self::Anonymous => true,
            Self::User(caller) => caller.token.user == *user,
            Self::Server(caller) => caller.scopes.write,
        };
        match may {
            true => Ok(()),
            false => Err(Error::MayNotActFor(user.clone())),
        }
    }

    pub(crate) fn may_see(&self, user: &UserId) -> Result<(), Error> {
        let may = match self {
            Self::Anonymous => true,
            Self::User(caller) => caller.token.user == *user || caller.token.watch.includes(user),
            Self::Server(caller) => caller.scopes.read,
        };
        match may {
            true => Ok(()),
            false => Err(Error::MayNotSee(user.clone())),
        }
    }

    /// Whether every one of `users` may be seen; the refusal names the first who may not.
    pub(crate) fn may_see_each(&self, users: &[UserId]) -> Result<(), Error> {
        users.iter().try_for_each(|user| self.may_see(user))
    }

    /// Whether everyone may be seen.
    pub(crate) fn may_see_everyone(&self) -> Result<(), Error> {
        let may = match self {
            Self::Anonymous => true,
            Self::User(caller) => matches!(caller.token.watch, Watch::Everyone),
            Self::Server(caller) => caller.scopes.read,
        };
        match may {
            true => Ok(()),
            false => Err(Error::MayNotSeeEveryone),
        }
    }

    pub(crate) fn may_see_metrics(&self) -> Result<(), Error> {
        match self {
            Self::Anonymous => Ok(()),
            Self::Server(caller) if caller.scopes.read => Ok(()),
            Self::User(_) | Self::Server(_) => Err(Error::MayNotSeeMetrics),
        }
    }

    /// The name under which the caller's streams are counted; the open door has none.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        match self {
            Self::Anonymous => None,
            Self::User(caller) => Some(format!("user {}", caller.token.user).into()),
            Self::Server(caller) => Some(format!("key {}", caller.name).into()),
        }
    }

    /// What the streams of the caller need to go on; none where that cannot be withdrawn.
    pub(crate) fn credential(&self) -> Option<Arc<dyn Credential>> {
        match self {
            Self::User(caller) => Some(Arc::clone(&caller.token.key) as Arc<dyn Credential>),
            Self::Anonymous | Self::Server(_) => None,
        }
    }

    /// When the credential expires; never, where that is too far away to be told.
    pub(crate) fn expires(&self) -> Option<Instant> {
        let Self::User(caller) = self else {
            return None;
        };
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(caller.token.expires))?;
        let left = expires.duration_since(SystemTime::now());
        Instant::now().checked_add(left.unwrap_or_default())
    }
}

/// Seconds since the Unix epoch, on this instance's clock: what tokens are dated by.
fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
