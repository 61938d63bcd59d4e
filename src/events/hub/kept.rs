//! The entries that a ring keeps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Entry, Epoch, GroupEvent, Partition, Position, Timestamp, UserChange, UserId};

/// The bytes of a user in addition to the text of its id: the header of the id, its entry in the map, and the free
/// space of the map.
pub(crate) const USER_BYTES: usize = 72;

/// The bounds of a ring, or of one partition of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Older entries are evicted.
    pub(crate) span: Duration,
    /// Approximate bytes of all entries.
    pub(crate) bytes: usize,
}

/// What an entry tells.
#[derive(Debug)]
pub(crate) enum Change {
    /// The change of a user.
    User(UserId, UserChange),
    /// The change of the members of a group.
    Group(Arc<GroupEvent>),
    /// The entry has a kind that this version does not know.
    Unknown,
}

/// One entry of the history of a partition.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) position: Position,
    pub(crate) at: Timestamp,
    pub(crate) change: Change,
    /// Distance to the previous entry of the same user or group. Zero if there is none.
    pub(crate) distance: u32,
    pub(crate) partition: Partition,
}

impl Kept {
    pub(crate) fn of(partition: Partition, entry: &Entry) -> Self {
        let change = match entry {
            Entry::Event(event) => Change::User(event.user.clone(), event.change.clone()),
            Entry::Group(event) => Change::Group(Arc::clone(event)),
            Entry::Unknown { .. } => Change::Unknown,
        };
        Self {
            position: entry.position(),
            at: entry.at(),
            change,
            distance: 0,
            partition,
        }
    }

    /// The bytes of the entry while it has its own copy of the ids.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.change.bytes()
    }
}

impl Change {
    /// The bytes of the change with all that a ring keeps for it, if it is the only one of its user or group.
    fn bytes(&self) -> usize {
        match self {
            Self::User(user, change) => USER_BYTES + user.as_str().len() + change.memory(),
            Self::Group(event) => event.bytes() + USER_BYTES + event.group.as_str().len(),
            Self::Unknown => 0,
        }
    }
}

/// The newest entries of one partition, as a start reads them from the store: the newest first.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) partition: Partition,
    pub(crate) epoch: Epoch,
    /// The position before the first entry.
    pub(crate) floor: Position,
    /// From the oldest to the newest.
    pub(crate) entries: VecDeque<Kept>,
    bytes: usize,
}

impl Filled {
    /// Returns no entries, in a history that ends at `newest`.
    pub(crate) const fn until(partition: Partition, epoch: Epoch, newest: Position) -> Self {
        Self {
            partition,
            epoch,
            floor: newest,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Adds an entry before all others.
    pub(crate) fn prepend(&mut self, entry: &Entry) {
        let kept = Kept::of(self.partition, entry);
        self.bytes += kept.bytes();
        self.entries.push_front(kept);
        self.floor = entry.previous();
    }

    /// Whether older entries do not belong in the ring, because it is full or they are too old.
    pub(crate) fn is_full_at(&self, now: Timestamp, bounds: Bounds) -> bool {
        let too_old = |kept: &Kept| kept.at < now.minus(bounds.span);
        self.bytes >= bounds.bytes || self.entries.front().is_some_and(too_old)
    }
}
