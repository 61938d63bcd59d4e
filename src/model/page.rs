//! Pages of the online users.

use std::sync::Arc;

use super::id::UserId;
use super::partition::Partition;
use super::state::State;

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageCursor {
    /// Pages are ordered by id. The next page begins after this user, or with the first user of all.
    After(Option<UserId>),
    /// Pages follow the iteration of Redis (`ZSCAN`) over a large index, partition after partition.
    Scan {
        /// The partition of the iteration.
        partition: Partition,
        /// Users that did not fit into the page before.
        carried: Vec<UserId>,
        /// The cursor of the iteration, unless the iteration over the last partition has ended.
        place: Option<u64>,
        /// Users up to this id were returned while the index was small and pages were ordered by id.
        beyond: Option<UserId>,
    },
}

impl PageCursor {
    /// The first page.
    pub const START: Self = Self::After(None);
}

/// A page of users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The users, without duplicates.
    pub users: Vec<UserId>,
    /// Where the next page begins, if there may be one.
    pub next: Option<PageCursor>,
}

impl Page {
    /// Keeps the users whose flag is set; there is one flag for each user.
    pub fn only(mut self, wanted: Vec<bool>) -> Self {
        let mut wanted = wanted.into_iter();
        self.users.retain(|_| wanted.next() == Some(true));
        self
    }
}

/// Where the next part of a scan over the announced users of one partition begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ScanPlace {
    /// At the first user.
    #[default]
    Start,
    /// After this user, in the order of the ids.
    After(UserId),
    /// At this cursor of the iteration of Redis (`ZSCAN`).
    Cursor(u64),
}

/// A part of the announced users of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartPage {
    /// The users, in any order. A user may be in several parts of a scan.
    pub users: Vec<UserId>,
    /// The states of these users, where something is set.
    pub states: Vec<(UserId, Arc<State>)>,
    /// Where the next part begins, if there may be one.
    pub next: Option<ScanPlace>,
}
