//! The partitions of the store, and the names of their keys.

use super::keys::Keys;
use crate::model::{Partition, Partitions, UserId};

/// The partitions, each with the names of its keys.
#[derive(Debug)]
pub(super) struct Layout {
    partitions: Partitions,
    keys: Box<[Keys]>,
}

impl Layout {
    /// A store with one partition, whose names begin with `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            partitions: Partitions::ONE,
            keys: Box::new([Keys::new(prefix)]),
        }
    }

    pub(super) fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// The names of the keys of a partition.
    pub(super) fn keys(&self, partition: Partition) -> &Keys {
        // Partitions of other stores do not occur, because each process has one number of partitions.
        self.keys.get(partition.index()).unwrap_or(&self.keys[0])
    }

    /// The names of the keys of the partition of `user`.
    pub(super) fn of(&self, user: &UserId) -> &Keys {
        self.keys(self.partitions.of(user))
    }
}
