//! What a store is asked for, what it answers, and what it says unasked.

use thiserror::Error;

use crate::model::{ConnectionId, Entry, Epoch, Position, Timestamp, UserId};

/// What opening or refreshing a connection did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Whether this call, and no other, brought the user online.
    pub became_online: bool,
    /// When the connection expires unless it is refreshed.
    pub expires_at: Timestamp,
}

/// Why the store refuses to open or refresh a connection, which changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The connection was closed less than 10 s ago. Only a ping is refused for this: a connect
    /// opens the connection again.
    #[error("the connection was closed; connect opens it again")]
    ConnectionClosed,
    /// The user has as many live connections as are allowed.
    #[error("the user has {most} live connections, the most allowed")]
    TooManyConnections {
        /// The most live connections of one user.
        most: u32,
    },
}

/// Which connections a disconnect closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// This one.
    One(ConnectionId),
    /// All the user has.
    All,
}

/// What closing connections did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Whether another connection keeps the user online.
    pub online: bool,
    /// Whether this call, and no other, took the user offline.
    pub became_offline: bool,
}

/// One user, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserState {
    /// The connections that have not expired, in the order of their ids.
    pub connections: Vec<(ConnectionId, Timestamp)>,
    /// Whether the user is online.
    pub online: bool,
    /// The last moment the user was known to be alive, where that is still kept.
    pub last_seen_at: Option<Timestamp>,
}

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

/// Which of some users are announced, as of one position in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The data set the position belongs to.
    pub epoch: Epoch,
    /// Every event up to here is contained, none after it.
    pub position: Position,
    /// Those announced, in the order asked.
    pub users: Vec<UserId>,
}

/// A part of the history, oldest event first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The data set it belongs to.
    pub epoch: Epoch,
    /// The newest position in the whole history.
    pub newest: Position,
    /// The entries asked for.
    pub entries: Vec<Entry>,
}

impl History {
    /// Whether these entries, read after `position`, are all there ever were after it.
    ///
    /// Every entry names the one before it, so a trimmed or lost entry shows.
    pub fn continues(&self, position: Position) -> bool {
        match self.entries.first() {
            Some(first) => first.previous() == position,
            None => self.newest == position,
        }
    }
}

/// What one sweep found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// The store's clock when the sweep ran.
    pub now: Timestamp,
    /// The data set that was swept.
    pub epoch: Epoch,
    /// The newest position in its history.
    pub newest: Position,
    /// How late each departure was that this sweep announced, in milliseconds after its deadline.
    pub lateness_ms: Vec<u64>,
    /// How many announced users there are.
    pub announced: u64,
    /// Whether as many users were due as one sweep takes, or more.
    pub more: bool,
    /// When the next user is due, if there are any and no outage is being waited out.
    pub next_due: Option<Timestamp>,
}

/// What a store says without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// These entries were appended to the history of this data set.
    Entries(Epoch, Vec<Entry>),
    /// Something was appended: read the history.
    Changed,
    /// Somebody's key expired: a sweep may have work.
    Expired,
}
