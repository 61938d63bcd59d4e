//! Waits instead of sweeping while nothing happens in a partition.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::debug;

use super::NodeSweeper;
use crate::model::{Partition, PartitionSet};
use crate::store::{Heard, SWEEP_HEARTBEAT};
use crate::sweeper::quiet_time::{Beat, Tick};

impl NodeSweeper {
    /// The quiet partitions on the server.
    pub(super) fn quiet_parts(&self) -> PartitionSet {
        let quiet = self.parts.iter().filter(|(_, part)| part.is_quiet);
        quiet.map(|(each, _)| *each).collect()
    }

    /// Writes that this instance is ready to serve, or looks whether the store has what the hub has. If it has not, events or
    /// data were lost, so all quiet partitions are swept. They are also swept if the clock of the store was set, or if the
    /// store does not answer.
    pub(super) async fn beat(&mut self) {
        let (shared, quiet) = (Arc::clone(&self.shared), self.quiet_parts());
        let Some(times) = shared.store.quiet().filter(|_| !quiet.is_empty()) else {
            return;
        };
        let began = Instant::now();
        let (place, beat) = self.quiet.beat(quiet.iter().count());
        let Some(turn) = quiet.iter().nth(place) else {
            return;
        };
        let heard = match beat {
            Beat::Writes => {
                let covered = quiet.iter().map(|each| (each, times.covered_until(each)));
                let covered: Vec<_> = covered.collect();
                let written = shared.store.write_ready(&covered, turn).await;
                written.map(|()| None)
            }
            Beat::Looks(look) => shared.store.look(quiet, turn, look).await.map(Some),
        };
        let is_as_known = match heard {
            Ok(heard) => {
                self.note_beat();
                heard.is_none_or(|heard| self.is_as_known(turn, &heard, began))
            }
            Err(error) => {
                debug!(%error, "a beat failed");
                false
            }
        };
        if !is_as_known {
            self.sweep_now(quiet);
        }
    }

    /// Records that the store took a beat.
    fn note_beat(&mut self) {
        self.quiet.heard();
        if let Some(time) = self.quiet.time() {
            self.shared.note_beat(time);
        }
        for part in self.parts.values_mut().filter(|part| part.is_quiet) {
            part.swept_at = Instant::now();
        }
    }

    /// Whether a look at quiet partitions, which began at `began`, found what the hub has, and a clock that was not set.
    fn is_as_known(&mut self, turn: Partition, heard: &Heard, began: Instant) -> bool {
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
