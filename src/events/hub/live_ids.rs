//! The `id` of live events.

use crate::events::sse::cursor::Id;
use crate::model::{Epoch, Partition, PartitionSet, Partitions, Position};

/// The positions that the `id` of live events has.
///
/// A partition that restarted is *held* until all streams that watch it were reset: until then the `id` has the
/// position from before the restart. A client that is disconnected before its reset resumes from there, and is reset
/// then.
#[derive(Debug)]
pub(super) struct LiveIds {
    /// One position for each partition. Empty if there is one partition, whose `id` has an epoch.
    positions: Vec<Position>,
    held: PartitionSet,
}

impl LiveIds {
    pub(super) fn new(partitions: Partitions) -> Self {
        let count = match partitions {
            Partitions::ONE => 0,
            partitions => partitions.count(),
        };
        Self {
            positions: vec![Position::START; count],
            held: PartitionSet::default(),
        }
    }

    /// Sets the newest position of a partition, unless the partition is held.
    pub(super) fn advance(&mut self, partition: Partition, newest: Position) {
        if !self.held.contains(partition)
            && let Some(position) = self.positions.get_mut(partition.index())
        {
            *position = newest;
        }
    }

    /// Returns the `id` of an event that has just advanced its partition.
    pub(super) fn id(&self, epoch: Epoch, position: Position) -> Id<'_> {
        if self.positions.is_empty() {
            Id::One(epoch, position)
        } else {
            Id::Many(&self.positions)
        }
    }

    /// Holds a partition.
    pub(super) fn hold(&mut self, partition: Partition) {
        self.held.insert(partition);
    }

    /// Releases some partitions, which are at these positions now.
    pub(super) fn release(&mut self, released: impl Iterator<Item = (Partition, Position)>) {
        for (partition, newest) in released {
            self.held.remove(partition);
            self.advance(partition, newest);
        }
    }

    /// Returns the partitions that are held.
    pub(super) fn held(&self) -> PartitionSet {
        self.held
    }
}
