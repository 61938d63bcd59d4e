use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::events::{Doorbell, Hub};
use crate::store::{Store, Swept};
use crate::telemetry::Metrics;

/// What the sweepers of all servers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) hub: Arc<Hub>,
    pub(super) doorbell: Arc<Doorbell>,
    metrics: Arc<Metrics>,
    pub(super) interval: Duration,
    /// The number of announced users of each partition, as of its last sweep.
    announced: Mutex<Box<[u64]>>,
}

impl Shared {
    pub(super) fn new(
        store: Arc<Store>,
        hub: Arc<Hub>,
        doorbell: Arc<Doorbell>,
        metrics: Arc<Metrics>,
        interval: Duration,
    ) -> Self {
        let announced = vec![0; store.partitions().count()];
        Self {
            store,
            hub,
            doorbell,
            metrics,
            interval,
            announced: Mutex::new(announced.into()),
        }
    }

    /// Takes over what a sweep found and did.
    pub(super) fn account(&self, swept: &Swept) {
        self.metrics.sweeps.inc();
        let mut announced = self.announced.lock();
        if let Some(announced) = announced.get_mut(swept.partition.index()) {
            *announced = swept.announced;
        }
        let online: u64 = announced.iter().sum();
        self.metrics.users_online.set(online.cast_signed());
        for lateness_ms in &swept.lateness_ms {
            self.metrics.expired(Duration::from_millis(*lateness_ms));
        }
    }
}
