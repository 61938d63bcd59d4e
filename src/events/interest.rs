//! The users whose events a stream carries.

use std::sync::Arc;

use crate::model::{GroupEvent, GroupId, PartitionSet, Partitions, UserId};

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

/// What a client wants to follow.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// An interest that stays as it is.
    Fixed(Interest),
    /// The groups to which this user belongs, and the changes to them.
    OwnGroups(UserId),
}

impl Wanted {
    /// Returns the partitions of the users.
    pub(super) fn watched(&self, partitions: Partitions) -> PartitionSet {
        match self {
            Self::Fixed(interest) => interest.watched(partitions),
            Self::OwnGroups(_) => PartitionSet::all(partitions),
        }
    }
}

/// The members of some groups, and some users in addition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupInterest {
    /// The groups, sorted and without duplicates.
    pub(super) groups: Box<[GroupId]>,
    /// The users, sorted and without duplicates.
    pub(super) users: Box<[UserId]>,
    /// The user of whom these are all groups. The stream follows the changes to them.
    pub(super) own: Option<UserId>,
}

impl GroupInterest {
    /// Whether an event changes which groups the user of the stream belongs to, if these are the groups of one. The user
    /// may leave a group that is not one of these: the client may know the group from an earlier stream.
    pub(super) fn is_own_change(&self, event: &GroupEvent) -> bool {
        let is_known = event.has_joined() && self.has_group(&event.group);
        let own = self.own.as_ref();
        own.is_some_and(|user| !is_known && event.names(user))
    }

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
            own: None,
        }))
    }

    /// Returns the interest in the members of the groups of a user.
    pub(super) fn own_groups(user: UserId, groups: Vec<GroupId>) -> Self {
        Self::Groups(Arc::new(GroupInterest {
            groups: sorted(groups).into(),
            users: Box::default(),
            own: Some(user),
        }))
    }

    /// Returns the user whose groups these are, if the stream follows the changes to them.
    pub(super) fn own(&self) -> Option<&UserId> {
        match self {
            Self::AllUsers | Self::Users(_) => None,
            Self::Groups(interest) => interest.own.as_ref(),
        }
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
