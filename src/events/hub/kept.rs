//! The entries that a ring keeps.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{Entry, Epoch, Partition, Position, Timestamp, Transition, UserId};

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

/// One entry of the history of a partition.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) position: Position,
    pub(crate) at: Timestamp,
    pub(crate) change: Option<(UserId, Transition)>,
    /// Distance to the previous entry of the same user. Zero if there is none.
    pub(crate) distance: u32,
    pub(crate) partition: Partition,
}

impl Kept {
    pub(crate) fn of(partition: Partition, entry: &Entry) -> Self {
        let change = entry
            .event()
            .map(|event| (event.user.clone(), event.transition));
        Self {
            position: entry.position(),
            at: entry.at(),
            change,
            distance: 0,
            partition,
        }
    }

    /// The bytes of the entry while it has its own copy of the id.
    fn bytes(&self) -> usize {
        let user = self
            .change
            .as_ref()
            .map_or(0, |(user, _)| user.as_str().len());
        size_of::<Self>() + USER_BYTES + user
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
