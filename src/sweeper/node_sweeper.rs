//! Sweeps the partitions on one server.

mod beats;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::quiet_time::{QuietTime, TICK};
use super::shared::Shared;
use crate::events::Hub;
use crate::model::{Epoch, Partition, PartitionSet, Position, Timestamp};
use crate::store::{NodeId, OUTAGE, SWEEP_HEARTBEAT, StoreError, Swept};

/// The shortest time between two sweeps that the doorbell requests.
const DOORBELL_REST: Duration = Duration::from_millis(10);

/// Partitions are swept together if their times differ by less.
const TOGETHER: Duration = Duration::from_millis(20);

/// The longest rest of a quiet partition. Sweeps also trim the history and keep cursors short.
const LONGEST_REST: Duration = Duration::from_secs(3_600);

/// The sweeper of the partitions on one server.
#[derive(Debug)]
pub(super) struct NodeSweeper {
    shared: Arc<Shared>,
    node: NodeId,
    /// The address of a node of a cluster, by which the metrics name it.
    address: Option<String>,
    parts: BTreeMap<Partition, Part>,
    quiet: QuietTime,
    /// Whether failing sweeps were logged.
    warned: bool,
}

/// The state of one partition.
#[derive(Debug)]
struct Part {
    /// When to sweep the partition next.
    next: Instant,
    /// Whether the partition is swept only when a user is due.
    is_quiet: bool,
    /// A position that the bus has to reach within a heartbeat of this time.
    expected: Option<(Position, Instant)>,
    failing_since: Option<Instant>,
    /// The last sweep, or a later beat while the partition is quiet; or when the partition came to the server.
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
            quiet: QuietTime::new(),
            warned: false,
        }
    }

    /// Sweeps for as long as it is polled.
    pub(super) async fn run(mut self) {
        loop {
            self.follow_the_server();
            let began = Instant::now();
            let due = |part: &Part| part.next <= began + TOGETHER;
            let due = self.parts.iter().filter(|(_, part)| due(part));
            let due: PartitionSet = due.map(|(each, _)| *each).collect();
            if let Some(first) = due.iter().next() {
                self.hear(first).await;
                self.sweep(began, due).await;
            }
            if self.quiet.next_beat <= Instant::now() {
                self.beat().await;
            }
            self.note_in_metrics();
            self.pause(began).await;
        }
    }

    async fn sweep(&mut self, began: Instant, due: PartitionSet) {
        let known: Vec<_> = due
            .iter()
            .map(|each| (each, self.shared.hub.newest(each)))
            .collect();
        let settled = self.settled(due);
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
            let before = before.and_then(|(_, newest)| *newest);
            self.take((began, settled), swept, before);
        }
        for partition in failed.iter() {
            self.note_failure(partition, &error);
        }
        self.note_recovery();
    }

    /// Forgets what was noted about the partitions of `due`, which are swept now. Returns those that may become quiet
    /// after the sweep: none while calls wait for the store, because the sweep may run before these calls.
    fn settled(&self, due: PartitionSet) -> PartitionSet {
        let shared = &self.shared;
        let Some(quiet) = shared.store.quiet() else {
            return PartitionSet::default();
        };
        due.iter().for_each(|each| quiet.take_disturbance(each));
        if shared.store.is_serving(self.node) {
            return PartitionSet::default();
        }
        due
    }

    /// Makes the next round sweep these partitions. Until then they are not quiet, so no beat covers them: it would
    /// replace the time that the last sweep or beat wrote, by which a sweep finds out that the clock was set back.
    fn sweep_now(&mut self, partitions: PartitionSet) {
        let now = Instant::now();
        for partition in partitions.iter() {
            if let Some(part) = self.parts.get_mut(&partition) {
                part.is_quiet = false;
                part.next = part.next.min(now);
            }
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
                is_quiet: false,
                expected: None,
                failing_since: None,
                swept_at: Instant::now(),
                overdue: 0,
            });
        }
    }

    /// Waits until a partition may need a sweep.
    async fn pause(&mut self, began: Instant) {
        let shared = Arc::clone(&self.shared);
        let served = self.parts.keys().copied().collect();
        loop {
            let (wake_at, quiet) = (self.wake_at(began), self.quiet_parts());
            if wake_at <= Instant::now() {
                yield_now().await;
                return;
            }
            let disturbed = async {
                match shared.store.quiet() {
                    Some(states) if !quiet.is_empty() => states.disturbed(quiet).await,
                    _ => std::future::pending().await,
                }
            };
            let next = if quiet.is_empty() {
                wake_at
            } else {
                wake_at.min(Instant::now() + TICK)
            };
            tokio::select! {
                rung = shared.doorbell.rung(served) => {
                    let rest = began + DOORBELL_REST;
                    for partition in rung.iter() {
                        if let Some(part) = self.parts.get_mut(&partition) {
                            part.next = part.next.min(rest);
                        }
                    }
                    sleep_until(rest).await;
                }
                disturbed = disturbed => self.wake(disturbed),
                () = sleep_until(next) => {}
            }
            self.cover();
        }
    }

    /// When the next partition is to be swept, or a beat is due. At most a heartbeat after `began`, because other
    /// partitions may be on the server then.
    fn wake_at(&self, began: Instant) -> Instant {
        let nexts = self.parts.values().map(|part| part.next);
        let has_quiet = self.parts.values().any(|part| part.is_quiet);
        let beat = has_quiet.then_some(self.quiet.next_beat);
        nexts
            .chain(beat)
            .fold(began + SWEEP_HEARTBEAT, Instant::min)
    }

    fn take(
        &mut self,
        (began, settled): (Instant, PartitionSet),
        swept: Swept,
        before: Option<(Epoch, Position)>,
    ) {
        self.shared.account(&swept);
        let has_all = self.check_the_bus(&swept, before);
        if self.quiet.take(swept.now, began) {
            // The times that are known of the quiet partitions are from before the clock was set.
            self.sweep_now(self.quiet_parts());
        }
        let (partition, now, has_more) = (swept.partition, swept.now, swept.more);
        let (overdue, is_delicate) = (swept.overdue, swept.is_delicate);
        let until_due = swept.next_due.map(|due| due.since(now));
        if let Err(error) = swept.finished() {
            self.note_failure(partition, &error);
            return;
        }
        self.shared.note_reachable(partition, true);
        let may_rest = has_all && !has_more && !is_delicate && settled.contains(partition);
        let is_quiet = self.settle(partition, now, may_rest);
        let longest = if is_quiet {
            LONGEST_REST
        } else {
            SWEEP_HEARTBEAT
        };
        let rest = if has_more {
            Duration::ZERO
        } else {
            self.rest(until_due, longest)
        };
        if let Some(part) = self.parts.get_mut(&partition) {
            part.next = began + rest;
            part.failing_since = None;
            part.swept_at = Instant::now();
            part.overdue = overdue;
        }
    }

    /// Records that a partition was swept at `now`. Returns whether it is quiet.
    fn settle(&mut self, partition: Partition, now: Timestamp, may_rest: bool) -> bool {
        let Some(part) = self.parts.get_mut(&partition) else {
            return false;
        };
        part.is_quiet = false;
        if let Some(quiet) = self.shared.store.quiet() {
            quiet.cover(partition, now);
            part.is_quiet = may_rest && quiet.settle(partition);
        }
        part.is_quiet
    }

    /// The time until the next sweep: until the next user is due, but at least half the interval, so that a sweep finds
    /// several due users. A random part makes one of several instances do the work before the others look.
    fn rest(&self, until_due: Option<Duration>, longest: Duration) -> Duration {
        let interval = self.shared.interval;
        let jitter = interval.mul_f64(fastrand::f64() / 2.0);
        (until_due.unwrap_or(longest).max(interval / 2) + jitter).min(longest)
    }

    /// Warns once when sweeps of a partition have failed for longer than [`OUTAGE`], which delays departures.
    fn note_failure(&mut self, partition: Partition, error: &StoreError) {
        let Some(part) = self.parts.get_mut(&partition) else {
            return;
        };
        self.shared.note_reachable(partition, false);
        let now = Instant::now();
        part.is_quiet = false;
        part.next = now + self.shared.interval.min(SWEEP_HEARTBEAT);
        let failing_since = *part.failing_since.get_or_insert(now);
        if self.warned || failing_since.elapsed() < OUTAGE {
            debug!(%error, "a sweep failed");
        } else {
            self.warned = true;
            let node = self.address.as_deref();
            warn!(%error, node, "no sweep succeeds");
        }
    }

    fn note_recovery(&mut self) {
        let all_succeed = self.parts.values().all(|part| part.failing_since.is_none());
        if all_succeed && mem::take(&mut self.warned) {
            info!(node = self.address.as_deref(), "sweeps succeed again");
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
    /// the position `before` the sweep has lost events. Returns whether the bus has delivered everything.
    fn check_the_bus(&mut self, swept: &Swept, before: Option<(Epoch, Position)>) -> bool {
        let (hub, now) = (&self.shared.hub, Instant::now());
        let Some((epoch, known)) = hub.newest(swept.partition) else {
            return false;
        };
        let Some(part) = self.parts.get_mut(&swept.partition) else {
            return false;
        };
        if epoch != swept.epoch || Hub::lost_history(before, (swept.epoch, swept.newest)) {
            part.expected = None;
            hub.request_resync(swept.partition);
            return false;
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
        known >= swept.newest
    }
}

#[cfg(test)]
mod tests;
