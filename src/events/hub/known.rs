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
