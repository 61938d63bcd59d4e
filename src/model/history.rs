//! Parts of the history, and states of users as of a position in the history.

use super::{Entry, Epoch, Position, UserId};

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
