//! Parts of the history, and states of users as of a position in the history.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::Entry;
use super::event::{Epoch, Position, UserChange};
use super::id::UserId;
use super::partition::Partition;
use super::state::State;

/// The announced users among some users, as of one position in the history of each of their partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The partitions of the users, each with its data set and the position of the newest event that the answer
    /// includes.
    pub at: Vec<(Partition, Epoch, Position)>,
    /// The announced users, in the order of the request.
    pub users: Vec<UserId>,
    /// The states of these users, where something is set.
    pub states: Vec<(UserId, Arc<State>)>,
}

/// A part of the history of one partition, oldest event first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The data set of the history.
    pub epoch: Epoch,
    /// The newest position in the whole history.
    pub newest: Position,
    /// The requested entries.
    pub entries: Vec<Entry>,
}

impl History {
    /// Whether these entries, which were read after `position`, follow it without a gap.
    ///
    /// Every entry has the position of the entry before it, so a trimmed or lost entry is noticed.
    pub fn continues(&self, position: Position) -> bool {
        match self.entries.first() {
            Some(first) => first.previous() == position,
            None => self.newest == position,
        }
    }

    /// Notes in `before` whether each user with a transition up to `until` was announced before it, unless `before` has
    /// an earlier transition of the user.
    pub(crate) fn note_announced_before(
        &self,
        until: Position,
        before: &mut HashMap<UserId, bool>,
    ) {
        let entries = self.entries.iter();
        let entries = entries.filter(|entry| entry.position() <= until);
        for event in entries.filter_map(Entry::event) {
            let was_announced = !matches!(event.change, UserChange::Online { .. });
            before.entry(event.user.clone()).or_insert(was_announced);
        }
    }
}
