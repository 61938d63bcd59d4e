//! The move from one store to another: what an instance tells the former store, and what it learns.

use std::time::Duration;

use super::timestamp::Timestamp;

/// What a store is in a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveRole {
    /// The only store of its instance.
    Only,
    /// The store that the data leave.
    Former,
    /// The store that the data go to.
    Next,
}

/// What an instance tells the former store every second. An instance without a next store tells it too while another
/// one has one, so that the others know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveReport {
    /// The name of the instance.
    pub instance: String,
    /// The next store of the instance; `None` if it has only one store.
    pub next: Option<NextStore>,
    /// The longest time that a connection can live without a call, by the settings of the instance.
    pub longest_life: Duration,
    /// Everything that no ping repeats was copied since [`MoveState::incomplete_at`] had this value.
    pub copied: Option<Timestamp>,
}

/// The next store as an instance knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextStore {
    /// Where the store is, by the settings of the instance.
    pub place: String,
    /// Identifies the data set of the store. `None` until all its partitions were read.
    pub data_set: Option<String>,
    /// Whether all writes since the last report reached the store.
    pub is_complete: bool,
}

/// How far a move is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveState {
    /// The time of the former store.
    pub now: Timestamp,
    /// When the next store begins to answer. `None`: that is not decided.
    pub moves_at: Option<Timestamp>,
    /// Where the next store is, once that is decided.
    pub moves_to: String,
    /// The last time at which a write was missing in the next store.
    pub incomplete_at: Timestamp,
    /// How long all writes must have reached the next store.
    pub needed: Duration,
    /// The number of instances.
    pub instances: u32,
    /// The number of instances that do not write to the same next store.
    pub others: u32,
    /// Whether this instance must copy what no ping repeats.
    pub copies: bool,
}

impl MoveState {
    /// How long no write to the next store may fail before the move. Zero if only the copy is missing.
    pub fn remaining(&self) -> Duration {
        self.needed
            .saturating_sub(self.now.since(self.incomplete_at))
    }
}
