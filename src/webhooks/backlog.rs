//! The age of the oldest event that a receiver does not have.

use std::time::Duration;

use parking_lot::Mutex;

use crate::model::{Partition, Partitions};

/// The backlog of one receiver in each partition, as far as this instance sends.
#[derive(Debug)]
pub(super) struct Backlog(Mutex<Vec<Duration>>);

impl Backlog {
    /// No backlog.
    pub(super) fn new(partitions: Partitions) -> Self {
        Self(Mutex::new(vec![Duration::ZERO; partitions.count()]))
    }

    /// Notes the age of the oldest event of a partition. Returns the age of the oldest one of all partitions.
    pub(super) fn note(&self, partition: Partition, age: Duration) -> Duration {
        let mut ages = self.0.lock();
        if let Some(known) = ages.get_mut(partition.index()) {
            *known = age;
        }
        ages.iter().max().copied().unwrap_or_default()
    }
}
