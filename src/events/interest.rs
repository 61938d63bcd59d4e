//! The users whose events a stream carries.

use std::sync::Arc;

use crate::model::{GroupId, PartitionSet, Partitions, UserId};

/// The number of an audience: the streams with equal interests.
pub(super) type AudienceId = u64;

/// The users whose events a stream carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interest {
    /// All users.
    AllUsers,
    /// These users, sorted and without duplicates.
    Users(Arc<[UserId]>),
    /// The members of some groups.
    Groups(Arc<GroupInterest>),
}

/// The members of some groups, and some users in addition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupInterest {
    /// The groups, sorted and without duplicates.
    pub(super) groups: Box<[GroupId]>,
    /// The users, sorted and without duplicates.
    pub(super) users: Box<[UserId]>,
}

impl GroupInterest {
    /// Whether this is one of the groups.
    pub(super) fn has_group(&self, group: &GroupId) -> bool {
        self.groups.binary_search(group).is_ok()
    }

    /// Whether this is one of the users.
    pub(super) fn has_user(&self, user: &UserId) -> bool {
        self.users.binary_search(user).is_ok()
    }
}

impl Interest {
    /// Returns the interest in `users`, which may be unsorted and contain duplicates.
    pub(crate) fn users(users: Vec<UserId>) -> Self {
        Self::Users(sorted(users).into())
    }

    /// Returns the interest in the members of `groups` and in `users`. Both may be unsorted and contain duplicates.
    pub(crate) fn groups(groups: Vec<GroupId>, users: Vec<UserId>) -> Self {
        Self::Groups(Arc::new(GroupInterest {
            groups: sorted(groups).into(),
            users: sorted(users).into(),
        }))
    }

    /// Returns the users that the interest lists.
    pub(super) fn listed(&self) -> &[UserId] {
        match self {
            Self::AllUsers => &[],
            Self::Users(users) => users,
            Self::Groups(interest) => &interest.users,
        }
    }

    /// Returns the groups of the interest.
    pub(super) fn listed_groups(&self) -> &[GroupId] {
        match self {
            Self::AllUsers | Self::Users(_) => &[],
            Self::Groups(interest) => &interest.groups,
        }
    }

    /// Returns the partitions of these users. A member of a group can be in any partition.
    pub(crate) fn watched(&self, partitions: Partitions) -> PartitionSet {
        match self {
            Self::Users(users) if partitions != Partitions::ONE => {
                users.iter().map(|user| partitions.of(user)).collect()
            }
            Self::Users(_) | Self::Groups(_) | Self::AllUsers => PartitionSet::all(partitions),
        }
    }

    /// Whether one of these users may be in one of these partitions.
    pub(crate) fn watches(&self, partitions: Partitions, among: &PartitionSet) -> bool {
        match self {
            Self::AllUsers | Self::Groups(_) => true,
            Self::Users(users) => users.iter().any(|user| among.contains(partitions.of(user))),
        }
    }
}

fn sorted<T: Ord>(mut ids: Vec<T>) -> Vec<T> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
