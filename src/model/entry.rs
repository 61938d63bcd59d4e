//! The entries of the history.

use std::sync::Arc;

use super::event::{Position, PresenceEvent};
use super::group::GroupEvent;
use super::timestamp::Timestamp;

/// One entry of the history.
///
/// Instances of different versions may share one store, so an entry may have a kind that this version does not know.
/// Such an entry advances the position, and no stream carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A user went online or offline.
    Event(PresenceEvent),
    /// Users joined or left a group. Shared, because an entry may name many users.
    Group(Arc<GroupEvent>),
    /// The entry has a kind that this version does not know.
    Unknown {
        /// The position of the entry in the history.
        position: Position,
        /// The position of the entry before it. An unreadable entry has its own position here, so that a reader
        /// notices the gap.
        previous: Position,
    },
}

impl Entry {
    /// The position of the entry in the history.
    pub fn position(&self) -> Position {
        match self {
            Self::Event(event) => event.position,
            Self::Group(event) => event.position,
            Self::Unknown { position, .. } => *position,
        }
    }

    /// The position of the entry before it.
    pub fn previous(&self) -> Position {
        match self {
            Self::Event(event) => event.previous,
            Self::Group(event) => event.previous,
            Self::Unknown { previous, .. } => *previous,
        }
    }

    /// When the entry was written.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Event(event) => event.at,
            Self::Group(event) => event.at,
            Self::Unknown { position, .. } => Timestamp::from_millis(position.millis),
        }
    }

    /// The event of a user, if the entry is one.
    pub const fn event(&self) -> Option<&PresenceEvent> {
        match self {
            Self::Event(event) => Some(event),
            Self::Group(_) | Self::Unknown { .. } => None,
        }
    }
}
