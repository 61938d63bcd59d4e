//! Pages of the online users.

use super::UserId;

/// Where the next page of a listing begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageCursor {
    /// With the first user in the order of their ids after this one, or with the very first.
    After(Option<UserId>),
    /// Somewhere in Redis's iteration over a large index.
    Scan {
        /// Users to begin with, who were too many for the page before.
        carried: Vec<UserId>,
        /// The place of the iteration, if it has not ended.
        place: Option<u64>,
        /// Those up to here, in the order of their ids, were given out when the index was small.
        beyond: Option<UserId>,
    },
}

impl PageCursor {
    /// The first page.
    pub const START: Self = Self::After(None);
}

/// A part of the announced users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The users, none of them twice.
    pub users: Vec<UserId>,
    /// Where the next page begins, if there may be more.
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
