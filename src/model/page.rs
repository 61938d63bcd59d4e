//! Pages of the online users.

use super::user_id::UserId;

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageCursor {
    /// Pages are ordered by id. The next page begins after this user, or with the first user of all.
    After(Option<UserId>),
    /// Pages follow the iteration of Redis (`ZSCAN`) over a large index.
    Scan {
        /// Users that did not fit into the page before.
        carried: Vec<UserId>,
        /// The cursor of the iteration, if the iteration has not ended.
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
