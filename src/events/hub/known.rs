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
    /// Listed users, and users that joined a group after its members were read.
    pub(crate) others: Vec<Arc<KnownUsers>>,
}

impl KnownMembers {
    /// The state of a member of the group with this place.
    pub(crate) fn of_member(&self, group: usize, user: &UserId) -> Option<&Known> {
        let members = self.of_groups.get(group);
        let known = members.and_then(|members| members.get(user));
        known.or_else(|| self.of_other(user))
    }

    /// The state of a listed user.
    pub(crate) fn of_other(&self, user: &UserId) -> Option<&Known> {
        self.others.iter().find_map(|others| others.get(user))
    }
}
