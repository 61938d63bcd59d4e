//! The content of a verified token.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::{GroupId, UserId};

/// What a verified token says.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) user: UserId,
    pub(super) watch: Watch,
    /// The groups that the user may see.
    pub(super) groups: Groups,
    /// The groups that the user may join by pinging.
    pub(super) join: Groups,
    /// The time of expiry, in seconds since the Unix epoch.
    pub(super) expires: u64,
}

impl Token {
    /// Whether the token has expired.
    pub(super) fn is_expired(&self) -> bool {
        self.expires <= unix_now()
    }
}

/// The users that a token's user may see besides itself.
#[derive(Debug)]
pub(super) enum Watch {
    /// These users, sorted.
    Users(Box<[UserId]>),
    /// Every user.
    Everyone,
}

impl Watch {
    /// Whether `user` is one of the users.
    pub(super) fn includes(&self, user: &UserId) -> bool {
        match self {
            Self::Users(users) => users.binary_search(user).is_ok(),
            Self::Everyone => true,
        }
    }
}

/// Groups that a claim names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Groups {
    /// These groups, sorted.
    These(Box<[GroupId]>),
    /// The groups that the user belongs to at the time of a call.
    Own,
    /// Every group.
    All,
}

/// The seconds since the Unix epoch, on the clock of this machine. The dates in tokens use the same unit.
pub(super) fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
