//! Sweeps the partitions on one server.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use super::shared::Shared;
use crate::events::Hub;
use crate::model::{Epoch, Partition, PartitionSet, Position};
use crate::store::{NodeId, OUTAGE, SWEEP_HEARTBEAT, StoreError, Swept};

/// The shortest time between two sweeps that the doorbell requests.
const DOORBELL_REST: Duration = Duration::from_millis(10);

/// Partitions are swept together if their times differ by less.
const TOGETHER: Duration = Duration::from_millis(20);

/// The sweeper of the partitions on one server.
#[derive(Debug)]
pub(super) struct NodeSweeper {
    shared: Arc<Shared>,
    node: NodeId,
    /// The address of a node of a cluster, by which the metrics name it.
    address: Option<String>,
    parts: BTreeMap<Partition, Part>,
    /// Whether failing sweeps were logged.
    warned: bool,
}

/// The state of one partition.
#[derive(Debug)]
struct Part {
    /// When to sweep the partition next.
    next: Instant,
    /// A position that the bus has to reach within a heartbeat of this time.
    expected: Option<(Position, Instant)>,
    failing_since: Option<Instant>,
    /// The last sweep, or when the partition came to the server.
    swept_at: Instant,
    /// How many users were due at the last sweep.
    overdue: u64,
}

impl Drop for NodeSweeper {
    fn drop(&mut self) {
        if let Some(address) = &self.address {
            self.shared.metrics.nodes.forget(address);
        }
    }
}

impl NodeSweeper {
    pub(super) fn new(shared: Arc<Shared>, node: NodeId) -> Self {
        Self {
            address: shared.store.address_of(node),
            shared,
            node,
            parts: BTreeMap::new(),
            warned: false,
        }
    }

    /// Sweeps for as long as it is polled.
    pub(super) async fn run(mut self) {
        loop {
            self.follow_the_server();
            let began = Instant::now();
            let due = |part: &Part| part.next <= began + TOGETHER;
            let due: PartitionSet = self
                .parts
                .iter()
                .filter(|(_, part)| due(part))
                .map(|(each, _)| *each)
                .collect();
            let known: Vec<_> = due
                .iter()
                .map(|each| (each, self.shared.hub.newest(each)))
                .collect();
            let swept = self.shared.store.sweep(self.node, due).await;
            let (swept, error) = match swept {
                Ok(swept) => (
                    swept,
                    StoreError::Unreachable("some partitions were not swept".to_owned()),
                ),
                Err(error) => (Vec::new(), error),
            };
            let mut failed = due;
            for swept in swept {
                failed.remove(swept.partition);
                let before = known.iter().find(|(each, _)| *each == swept.partition);
                self.take(began, swept, before.and_then(|(_, newest)| *newest));
            }
            for partition in failed.iter() {
                self.note_failure(partition, &error);
            }
            self.note_recovery();
            self.note_in_metrics();
            self.pause(began).await;
        }
    }

    /// Adds the partitions that are on the server now, and removes the others.
    fn follow_the_server(&mut self) {
        let served = self.shared.store.partitions_on(self.node);
        self.parts
            .retain(|partition, _| served.contains(*partition));
        for partition in served.iter() {
            self.parts.entry(partition).or_insert_with(|| Part {
                next: Instant::now(),
                expected: None,
                failing_since: None,
                swept_at: Instant::now(),
                overdue: 0,
            });
        }
    }

    /// Waits until the next sweep is due.
    async fn pause(&mut self, began: Instant) {
        let wake_at = self.parts.values().map(|part| part.next).min();
        let wake_at = wake_at
            .unwrap_or(began + SWEEP_HEARTBEAT)
            .min(began + SWEEP_HEARTBEAT);
        if wake_at <= began {
            yield_now().await;
            return;
        }
        let served = self.parts.keys().copied().collect();
        let Ok(rung) = timeout_at(wake_at, self.shared.doorbell.rung(served)).await else {
            return;
        };
        let rest = began + DOORBELL_REST;
        for partition in rung.iter() {
            if let Some(part) = self.parts.get_mut(&partition) {
                part.next = part.next.min(rest);
            }
        }
        tokio::time::sleep_until(rest).await;
    }

    fn take(&mut self, began: Instant, swept: Swept, before: Option<(Epoch, Position)>) {
        self.shared.account(&swept);
        self.check_the_bus(&swept, before);
        let (partition, rest) = (swept.partition, self.rest(&swept));
        let overdue = swept.overdue;
        match swept.finished() {
            Ok(_) => {
                self.shared.note_reachable(partition, true);
                if let Some(part) = self.parts.get_mut(&partition) {
                    part.next = began + rest;
                    part.failing_since = None;
                    part.swept_at = Instant::now();
                    part.overdue = overdue;
                }
            }
            Err(error) => self.note_failure(partition, &error),
        }
    }

    /// The time until the next sweep: until the next user is due, but at least half the interval, so that a sweep finds
    /// several due users. A random part makes one of several instances do the work before the others look.
    fn rest(&self, swept: &Swept) -> Duration {
        if swept.more {
            return Duration::ZERO;
        }
        let until_due = match swept.next_due {
            Some(due) => due.since(swept.now),
            None => SWEEP_HEARTBEAT,
        };
        let interval = self.shared.interval;
        let jitter = interval.mul_f64(fastrand::f64() / 2.0);
        (until_due.max(interval / 2) + jitter).min(SWEEP_HEARTBEAT)
    }

    /// Warns once when sweeps of a partition have failed for longer than [`OUTAGE`], which delays departures.
    fn note_failure(&mut self, partition: Partition, error: &StoreError) {
        let Some(part) = self.parts.get_mut(&partition) else {
            return;
        };
        self.shared.note_reachable(partition, false);
        let now = Instant::now();
        part.next = now + self.shared.interval.min(SWEEP_HEARTBEAT);
        let failing_since = *part.failing_since.get_or_insert(now);
        if self.warned || failing_since.elapsed() < OUTAGE {
            debug!(%error, "a sweep failed");
        } else {
            self.warned = true;
            warn!(%error, "no sweep succeeds");
        }
    }

    fn note_recovery(&mut self) {
        let all_succeed = self.parts.values().all(|part| part.failing_since.is_none());
        if all_succeed && mem::take(&mut self.warned) {
            info!("sweeps succeed again");
        }
    }

    fn note_in_metrics(&self) {
        let Some(address) = &self.address else {
            return;
        };
        let parts = || self.parts.values();
        let is_reachable = parts().all(|part| part.failing_since.is_none());
        let overdue = parts().map(|part| part.overdue).sum();
        let swept_age = parts().map(|part| part.swept_at.elapsed()).max();
        let nodes = &self.shared.metrics.nodes;
        nodes.note(
            address,
            is_reachable,
            overdue,
            swept_age.unwrap_or_default(),
        );
    }

    /// Compares the bus with the history: one heartbeat after a sweep, the bus must have delivered every event that the
    /// sweep found. This notices a silent subscription, a lost message and a new data set. A history that ends before
    /// the position `before` the sweep has lost events.
    fn check_the_bus(&mut self, swept: &Swept, before: Option<(Epoch, Position)>) {
        let (hub, now) = (&self.shared.hub, Instant::now());
        let Some((epoch, known)) = hub.newest(swept.partition) else {
            return;
        };
        let Some(part) = self.parts.get_mut(&swept.partition) else {
            return;
        };
        if epoch != swept.epoch || Hub::lost_history(before, (swept.epoch, swept.newest)) {
            part.expected = None;
            hub.request_resync(swept.partition);
            return;
        }
        match part.expected {
            Some((position, since)) if known < position => {
                if since.elapsed() >= SWEEP_HEARTBEAT {
                    part.expected = None;
                    hub.request_resync(swept.partition);
                }
            }
            _ => part.expected = Some((swept.newest, now)),
        }
    }
}
