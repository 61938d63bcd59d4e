//! Whose events a stream carries.

use std::sync::Arc;

use crate::model::UserId;

/// The number of a group.
pub(super) type GroupId = u64;

/// Whose events a stream wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Every user's.
    AllUsers,
    /// Those of these users, sorted and without repeats.
    Users(Arc<[UserId]>),
}

impl Interest {
    /// The events of `users`, who may be in any order and repeat.
    pub fn users(mut users: Vec<UserId>) -> Self {
        users.sort_unstable();
        users.dedup();
        Self::Users(users.into())
    }

    /// Whether the events of `user` are wanted.
    pub fn includes(&self, user: &UserId) -> bool {
        match self {
            Self::AllUsers => true,
            Self::Users(users) => users.binary_search(user).is_ok(),
        }
    }
}
