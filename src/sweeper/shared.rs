use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::events::{Doorbell, Hub};
use crate::model::{Partition, PartitionSet, Timestamp};
use crate::presence::Answering;
use crate::store::{Store, Swept};
use crate::telemetry::Metrics;

/// What the sweepers of all servers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) hub: Arc<Hub>,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) metrics: Arc<Metrics>,
    /// Only the sweeps and users of the store that answers are in the metrics.
    answering: Answering,
    pub(super) interval: Duration,
    /// The number of announced users of each partition, as of its last sweep.
    announced: Mutex<Box<[u64]>>,
    /// The partitions whose last sweep succeeded.
    reachable: Mutex<PartitionSet>,
}

impl Shared {
    pub(super) fn new(
        store: Arc<Store>,
        hub: Arc<Hub>,
        doorbell: Arc<Doorbell>,
        metrics: Arc<Metrics>,
        answering: Answering,
        interval: Duration,
    ) -> Self {
        let announced = vec![0; store.partitions().count()];
        Self {
            store,
            hub,
            doorbell,
            metrics,
            answering,
            interval,
            announced: Mutex::new(announced.into()),
            reachable: Mutex::default(),
        }
    }

    /// Records the result of a sweep in the metrics.
    pub(super) fn account(&self, swept: &Swept) {
        let mut announced = self.announced.lock();
        if let Some(announced) = announced.get_mut(swept.partition.index()) {
            *announced = swept.announced;
        }
        let online: u64 = announced.iter().sum();
        if self.answering.answers_now() {
            self.metrics
                .swept(swept.now, swept.left, &swept.lateness_ms);
            self.metrics.users_online.set(online.cast_signed());
            self.show_reachable(&self.reachable.lock());
            let now = self.store.now(swept.partition);
            let age = self.hub.oldest().map(|oldest| now.since(oldest));
            let age = age.unwrap_or_default().as_secs_f64();
            self.metrics.history_age_seconds.set(age);
        }
    }

    /// Records that the store took a beat, at `time`.
    pub(super) fn note_beat(&self, time: Timestamp) {
        if self.answering.answers_now() {
            self.metrics.swept(time, 0, &[]);
        }
    }

    /// Records whether the last sweep of a partition succeeded.
    pub(super) fn note_reachable(&self, partition: Partition, is_reachable: bool) {
        let mut reachable = self.reachable.lock();
        if reachable.contains(partition) == is_reachable {
            return;
        }
        if is_reachable {
            reachable.insert(partition);
        } else {
            reachable.remove(partition);
        }
        if self.answering.answers_now() {
            self.show_reachable(&reachable);
        }
    }

    fn show_reachable(&self, reachable: &PartitionSet) {
        let count = reachable.iter().count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.partitions_reachable.set(count);
    }
}
