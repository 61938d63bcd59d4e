//! The users whose events a stream carries.

use std::sync::Arc;

use crate::model::{PartitionSet, Partitions, UserId};

/// The number of a group of streams with equal interests.
pub(super) type GroupId = u64;

/// The users whose events a stream carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// All users.
    AllUsers,
    /// These users, sorted and without duplicates.
    Users(Arc<[UserId]>),
}

impl Interest {
    /// Returns the interest in `users`, which may be unsorted and contain duplicates.
    pub(crate) fn users(mut users: Vec<UserId>) -> Self {
        users.sort_unstable();
        users.dedup();
        Self::Users(users.into())
    }

    /// Whether the interest includes `user`.
    pub(crate) fn includes(&self, user: &UserId) -> bool {
        match self {
            Self::AllUsers => true,
            Self::Users(users) => users.binary_search(user).is_ok(),
        }
    }

    /// Returns the partitions of these users.
    pub(crate) fn watched(&self, partitions: Partitions) -> PartitionSet {
        match self {
            Self::Users(users) if partitions != Partitions::ONE => {
                users.iter().map(|user| partitions.of(user)).collect()
            }
            Self::Users(_) | Self::AllUsers => PartitionSet::all(partitions),
        }
    }

    /// Whether one of these users is in one of these partitions.
    pub(crate) fn watches(&self, partitions: Partitions, among: &PartitionSet) -> bool {
        match self {
            Self::AllUsers => true,
            Self::Users(users) => users.iter().any(|user| among.contains(partitions.of(user))),
        }
    }
}
