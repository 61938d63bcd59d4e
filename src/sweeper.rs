//! The sweeper of an instance.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, info, warn};

use crate::events::{Doorbell, Hub};
use crate::model::{Epoch, Position};
use crate::store::{OUTAGE, SWEEP_HEARTBEAT, Store, StoreError, Swept};
use crate::telemetry::Metrics;

/// The shortest time between two sweeps that the doorbell requests.
const DOORBELL_REST: Duration = Duration::from_millis(10);

/// How often an instance looks for writes of groups that no instance finishes.
const GROUP_INTERVAL: Duration = Duration::from_secs(1);

/// Sweeps whenever a user is due, and at least once per [`SWEEP_HEARTBEAT`].
#[derive(Debug)]
pub(crate) struct Sweeper {
    store: Arc<Store>,
    hub: Arc<Hub>,
    doorbell: Arc<Doorbell>,
    metrics: Arc<Metrics>,
    interval: Duration,
    /// A position that the bus has to reach within a heartbeat of this time.
    expected: Option<(Position, Instant)>,
    failing_since: Option<Instant>,
    warned: bool,
    /// When the writes of groups were last finished.
    groups_finished: Instant,
}

impl Sweeper {
    /// A sweeper of `store`. While users are due, at most about `interval` passes between two sweeps.
    pub(crate) fn new(
        store: Arc<Store>,
        hub: Arc<Hub>,
        doorbell: Arc<Doorbell>,
        metrics: Arc<Metrics>,
        interval: Duration,
    ) -> Self {
        Self {
            store,
            hub,
            doorbell,
            metrics,
            interval,
            expected: None,
            failing_since: None,
            warned: false,
            groups_finished: Instant::now(),
        }
    }

    /// Sweeps for as long as it is polled.
    pub(crate) async fn run(mut self) {
        loop {
            let began = Instant::now();
            let known = self.hub.newest();
            let swept = self.store.sweep().await;
            if let Ok(swept) = &swept {
                self.account(swept, known);
            }
            match swept.and_then(Swept::finished) {
                Ok(swept) => {
                    self.note_success();
                    self.finish_group_writes().await;
                    self.pause(began, &swept).await;
                }
                Err(error) => {
                    self.note_failure(&error);
                    sleep(self.interval.min(SWEEP_HEARTBEAT)).await;
                }
            }
        }
    }

    /// Waits until the sweep after `swept`, which began at `began`.
    async fn pause(&self, began: Instant, swept: &Swept) {
        if swept.more {
            yield_now().await;
            return;
        }
        let wake_at = began + self.rest(swept);
        let rung = timeout_at(wake_at, self.doorbell.rung()).await;
        if rung.is_ok() {
            sleep_until(began + DOORBELL_REST).await;
        }
    }

    /// The time until the next sweep: until the next user is due, but at least half the interval, so that a sweep finds
    /// several due users. A random part makes one of several instances do the work before the others look.
    fn rest(&self, swept: &Swept) -> Duration {
        let until_due = match swept.next_due {
            Some(due) => due.since(swept.now),
            None => SWEEP_HEARTBEAT,
        };
        let jitter = self.interval.mul_f64(fastrand::f64() / 2.0);
        (until_due.max(self.interval / 2) + jitter).min(SWEEP_HEARTBEAT)
    }

    /// Finishes writes of groups whose instance died.
    async fn finish_group_writes(&mut self) {
        if self.groups_finished.elapsed() < GROUP_INTERVAL {
            return;
        }
        self.groups_finished = Instant::now();
        let finished = timeout(SWEEP_HEARTBEAT, self.store.finish_group_writes()).await;
        if let Ok(Err(error)) = finished {
            debug!(%error, "the writes of groups were not finished");
        }
    }

    /// Warns once when sweeps have failed for longer than [`OUTAGE`], which delays departures.
    fn note_failure(&mut self, error: &StoreError) {
        let failing_since = *self.failing_since.get_or_insert_with(Instant::now);
        if self.warned || failing_since.elapsed() < OUTAGE {
            debug!(%error, "a sweep failed");
        } else {
            self.warned = true;
            warn!(%error, "no sweep succeeds");
        }
    }

    fn note_success(&mut self) {
        self.failing_since = None;
        if mem::take(&mut self.warned) {
            info!("sweeps succeed again");
        }
    }

    fn account(&mut self, swept: &Swept, before: Option<(Epoch, Position)>) {
        self.metrics.sweeps.inc();
        self.metrics.users_online.set(swept.announced.cast_signed());
        for lateness_ms in &swept.lateness_ms {
            self.metrics.expired(Duration::from_millis(*lateness_ms));
        }
        self.check_the_bus(swept, before);
    }

    /// Compares the bus with the history: one heartbeat after a sweep, the bus must have delivered every event that the
    /// sweep found. This notices a silent subscription, a lost message and a new data set. A history that ends before
    /// the position `before` the sweep has lost events.
    fn check_the_bus(&mut self, swept: &Swept, before: Option<(Epoch, Position)>) {
        let Some((epoch, known)) = self.hub.newest() else {
            return;
        };
        if epoch != swept.epoch || Hub::lost_history(before, (swept.epoch, swept.newest)) {
            self.expected = None;
            self.hub.request_resync();
            return;
        }
        match self.expected {
            Some((position, since)) if known < position => {
                if since.elapsed() >= SWEEP_HEARTBEAT {
                    self.expected = None;
                    self.hub.request_resync();
                }
            }
            _ => self.expected = Some((swept.newest, Instant::now())),
        }
    }
}
