//! Wakes the sweeper when a key expired.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{Partition, PartitionSet};

/// Wakes the sweeper early. The doorbell decides nothing: the sweep finds the users that are due.
#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    rung: Mutex<PartitionSet>,
    notify: Notify,
}

impl Doorbell {
    /// Requests a sweep of a partition.
    pub(crate) fn ring(&self, partition: Partition) {
        self.rung.lock().insert(partition);
        self.notify.notify_waiters();
    }

    /// Waits for the next ring of one of `partitions`, and returns which of them rang. Returns at once if one rang
    /// since the last wait.
    pub(crate) async fn rung(&self, partitions: PartitionSet) -> PartitionSet {
        loop {
            let mut notified = std::pin::pin!(self.notify.notified());
            // From here on a ring is not missed.
            notified.as_mut().enable();
            let rung = self.take(partitions);
            if !rung.is_empty() {
                return rung;
            }
            notified.await;
        }
    }

    /// Takes the rings of `partitions`.
    fn take(&self, partitions: PartitionSet) -> PartitionSet {
        let mut all = self.rung.lock();
        let (taken, left) = all.iter().partition(|each| partitions.contains(*each));
        *all = left;
        taken
    }
}
