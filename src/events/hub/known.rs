//! States of users that were read from the store.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::model::{Position, State, UserId};

/// The state of a user as of a position of its partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// `None`: the user was not announced. Else its state, if something was set.
    pub(crate) announced: Option<Option<Arc<State>>>,
    pub(crate) position: Position,
}

/// The states of some users.
pub(crate) type KnownUsers = HashMap<UserId, Known, RandomState>;

/// The states of the members of some groups, and of other users.
#[derive(Debug)]
pub(crate) struct KnownMembers {
    /// The members of each group, in the order of the groups.
    pub(crate) of_groups: Vec<Arc<KnownUsers>>,
    /// Listed users, and members that had to be read again. The newest come last.
    pub(crate) others: Vec<Arc<KnownUsers>>,
}

impl KnownMembers {
    /// The state of a member of the group with this place.
    pub(crate) fn of_member(&self, group: usize, user: &UserId) -> Option<&Known> {
        let of_group = || self.of_groups.get(group)?.get(user);
        self.of_other(user).or_else(of_group)
    }

    /// The state of a user that was read apart from the members of the groups.
    pub(crate) fn of_other(&self, user: &UserId) -> Option<&Known> {
        self.others.iter().rev().find_map(|others| others.get(user))
    }
}
