//! Waits instead of sweeping while nothing happens in a partition.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::debug;

use super::NodeSweeper;
use crate::model::{Partition, PartitionSet, Timestamp};
use crate::store::{Heard, Look, SWEEP_HEARTBEAT};
use crate::sweeper::quiet_time::{Beat, Tick};

impl NodeSweeper {
    /// The quiet partitions on the server.
    pub(super) fn quiet_parts(&self) -> PartitionSet {
        let quiet = self.parts.iter().filter(|(_, part)| part.is_quiet);
        quiet.map(|(each, _)| *each).collect()
    }

    /// Sends a beat: writes that this instance is ready to serve, or looks whether the store has what the hub has. If
    /// the store has something else, events or data were lost, and all quiet partitions are swept. They are also swept
    /// if the clock of the store was set, or if the store answers late or not at all.
    pub(super) async fn beat(&mut self) {
        let (shared, quiet) = (Arc::clone(&self.shared), self.quiet_parts());
        let Some(times) = shared.store.quiet().filter(|_| !quiet.is_empty()) else {
            return;
        };
        let (began, before) = (Instant::now(), self.quiet.heard_time());
        let (place, beat) = self.quiet.beat(quiet.iter().count());
        let Some(turn) = quiet.iter().nth(place) else {
            return;
        };
        let heard = match beat {
            Beat::Writes => {
                // Since the last reply, the store may have stood still.
                let until = |each| {
                    let covered = times.covered_until(each);
                    before.map_or(covered, |before| covered.min(before))
                };
                let covered: Vec<_> = quiet.iter().map(|each| (each, until(each))).collect();
                let written = shared.store.write_ready(&covered, turn).await;
                written.map(|()| None)
            }
            Beat::Looks(look) => shared.store.look(quiet, turn, look).await.map(Some),
        };
        let is_as_known = match heard {
            Ok(heard) => {
                let is_late = self.note_reply(began, before);
                let is_same = heard.is_none_or(|heard| self.compare_with_hub(turn, &heard, began));
                is_same && !is_late
            }
            Err(error) => {
                debug!(%error, "a beat failed");
                self.retract(before);
                false
            }
        };
        if !is_as_known {
            self.sweep_now(quiet);
        }
    }

    /// Asks a store that was silent whether it answers, before a sweep of `partition`: if the store stood still, the
    /// sweep has to count this time as an outage.
    pub(super) async fn hear(&mut self, partition: Partition) {
        if self.shared.store.quiet().is_none() || !self.quiet.is_silent() {
            return;
        }
        let (began, before) = (Instant::now(), self.quiet.heard_time());
        let asked = [partition].into_iter().collect();
        let heard = self.shared.store.look(asked, partition, Look::default());
        match heard.await {
            Ok(_) => drop(self.note_reply(began, before)),
            Err(_) => self.retract(before),
        }
    }

    /// Records that the store answered a request that was sent at `began`. If it was late, the store may have stood
    /// still since its reply at `before`. Returns whether it was late.
    fn note_reply(&mut self, began: Instant, before: Option<Timestamp>) -> bool {
        let is_late = self.quiet.heard_late(began);
        if is_late {
            self.retract(before);
        }
        self.note_beat();
        is_late
    }

    /// Takes back that this instance was ready to serve after `time`.
    fn retract(&self, time: Option<Timestamp>) {
        if let Some((times, time)) = self.shared.store.quiet().zip(time) {
            for partition in self.parts.keys() {
                times.cover(*partition, times.covered_until(*partition).min(time));
            }
        }
    }

    /// Records that the store took a beat.
    fn note_beat(&mut self) {
        if let Some(time) = self.quiet.time() {
            self.shared.note_beat(time);
        }
        for part in self.parts.values_mut().filter(|part| part.is_quiet) {
            part.swept_at = Instant::now();
        }
    }

    /// Takes what a look at quiet partitions found, which began at `began`. Returns whether it is what the hub has, and
    /// the clock was not set.
    fn compare_with_hub(&mut self, turn: Partition, heard: &Heard, began: Instant) -> bool {
        if heard.time.is_some_and(|time| self.quiet.take(time, began)) {
            return false;
        }
        let hub = &self.shared.hub;
        let known = hub.newest(turn).map(|(_, known)| known);
        let mut epochs = heard.epochs.iter();
        (heard.newest.is_none() || heard.newest == known)
            && epochs.all(|(each, epoch)| hub.newest(*each).map(|(known, _)| known) == *epoch)
    }

    /// Sweeps partitions soon in which something happens.
    pub(super) fn wake(&mut self, disturbed: PartitionSet) {
        let soon = Instant::now() + SWEEP_HEARTBEAT.mul_f64((1.0 + fastrand::f64()) / 2.0);
        for partition in disturbed.iter() {
            if let Some(part) = self.parts.get_mut(&partition) {
                part.is_quiet = false;
                part.next = part.next.min(soon);
            }
        }
    }

    /// Notes that this instance was ready to serve until now. If that is not certain, it sweeps.
    pub(super) fn cover(&mut self) {
        let (shared, quiet) = (Arc::clone(&self.shared), self.quiet_parts());
        match self.quiet.tick(shared.store.is_serving(self.node)) {
            Tick::Ready(until) => {
                if let Some(times) = shared.store.quiet() {
                    quiet.iter().for_each(|each| times.cover(each, until));
                }
            }
            Tick::Serving => {}
            Tick::Stalled => self.sweep_now(quiet),
        }
    }
}
