//! Partitions become known, and restart when the store lost events.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::events::hub::Hub;
use crate::events::hub::kept::{Bounds, Filled, Kept};
use crate::events::sse::cursor::Cursor;
use crate::events::sse::payload::ResetReason;
use crate::events::subscriber::Subscriber;
use crate::model::{Partition, PartitionSet};

/// Entries that are added to the ring before the lock is released for other threads.
const APPENDED_PART: usize = 256;

/// Partitions that restarted, and whose streams were not reset yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restarted {
    /// The generation of the last restart.
    generation: u64,
    partitions: PartitionSet,
    /// Why the streams are reset.
    pub(crate) reason: ResetReason,
}

impl Restarted {
    /// Returns how many partitions restarted.
    pub(crate) fn count(&self) -> usize {
        self.partitions.iter().count()
    }
}

impl Hub {
    /// Returns the bounds of the entries of one partition at a start.
    pub(crate) fn bounds_of_one(&self) -> Bounds {
        Bounds {
            span: self.limits.history,
            bytes: self.limits.history_bytes / self.partitions.count(),
        }
    }

    /// Whether the recent events of a partition are being read.
    pub(crate) fn is_filling(&self) -> bool {
        !self.filling.lock().is_empty()
    }

    /// Records that the store answers, and that the recent events of a partition are being read.
    pub(crate) fn start_filling(&self, partition: Partition) {
        self.filling.lock().insert(partition);
    }

    /// Whether each unknown partition among these will soon be known.
    pub(crate) fn will_know(&self, watched: &PartitionSet) -> bool {
        let state = self.state.lock();
        let soon = state.ids.held().union(&self.filling.lock());
        let mut unknown = watched
            .iter()
            .filter(|each| state.ring.newest(*each).is_none());
        unknown.all(|each| soon.contains(each))
    }

    /// Makes partitions known, with their recent entries. They were not known before.
    pub(crate) fn begin(&self, filled: Vec<Filled>) {
        let mut state = self.state.lock();
        for filled in &filled {
            state.ring.begin(filled.partition, filled.floor);
        }
        drop(state);
        self.append(filled);
        self.has_begun.store(true, Ordering::Relaxed);
        self.received.notify_waiters();
    }

    /// Makes all entries of a partition void, and replaces them by these entries. The streams that watch the partition
    /// receive nothing of it until [`Restarted`](Self::restarted) are complete.
    pub(crate) fn restart(&self, filled: Filled, reason: ResetReason) {
        let mut state = self.state.lock();
        let freed = state.ring.restart(filled.partition, filled.floor, reason);
        state.ids.hold(filled.partition);
        drop(state);
        // Many entries take long to free, so the lock is released first.
        drop(freed);
        self.invalidate_copies(filled.partition);
        self.append(vec![filled]);
    }

    /// Appends entries in the order of their time. Their partitions are known then.
    fn append(&self, filled: Vec<Filled>) {
        let mut known = Vec::with_capacity(filled.len());
        let mut entries: Vec<Kept> = Vec::new();
        for filled in filled {
            known.push((filled.partition, filled.epoch));
            if entries.is_empty() {
                entries = filled.entries.into();
            } else {
                entries.extend(filled.entries);
            }
        }
        entries.sort_unstable_by_key(|kept| {
            (kept.position.millis, kept.partition, kept.position.sequence)
        });
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let mut state = self.state.lock();
            for kept in entries.by_ref().take(APPENDED_PART) {
                state.ring.push(kept, None);
            }
        }
        let mut state = self.state.lock();
        for (partition, epoch) in known {
            self.filling.lock().remove(partition);
            state.ring.know(partition, epoch);
            if let Some((_, newest)) = state.ring.newest(partition) {
                state.ids.advance(partition, newest);
            }
        }
        drop(state);
        self.received.notify_waiters();
    }

    /// Returns the partitions that restarted, if the streams that watch them were not reset yet.
    pub(crate) fn restarted(&self) -> Option<Restarted> {
        let state = self.state.lock();
        let partitions = state.ids.held();
        let mut reasons = partitions.iter().map(|each| state.ring.reason_of(each));
        let first = reasons.next()?;
        let is_data_lost =
            first == ResetReason::DataLost || reasons.any(|reason| reason == ResetReason::DataLost);
        Some(Restarted {
            generation: state.ring.generation(),
            partitions,
            reason: if is_data_lost {
                ResetReason::DataLost
            } else {
                first
            },
        })
    }

    /// Ends the live delivery of the streams in one part of all streams that watch restarted partitions. Returns these
    /// streams.
    pub(crate) fn detach(&self, restarted: &Restarted, part: usize) -> Vec<Arc<Subscriber>> {
        let mut streams: Vec<_> = self.state.lock().lifetimes.part(part).cloned().collect();
        let (generation, among) = (restarted.generation, &restarted.partitions);
        streams.retain(|subscriber| {
            let watches = || subscriber.interest().watches(self.partitions, among);
            subscriber.enter_generation(generation, watches)
        });
        streams
    }

    /// Ends the restarts, after all streams that watch the partitions were detached. A partition that restarted again
    /// stays in the next [`Restarted`].
    pub(crate) fn release(&self, restarted: &Restarted) {
        let mut state = self.state.lock();
        let ring = &state.ring;
        let released = restarted.partitions.iter().filter_map(|partition| {
            let is_done = ring.generation_of(partition) <= restarted.generation;
            let (_, newest) = ring.newest(partition).filter(|_| is_done)?;
            Some((partition, newest))
        });
        let released: Vec<_> = released.collect();
        state.ids.release(released.into_iter());
        drop(state);
        self.received.notify_waiters();
    }

    /// Returns the cursor of a client that received everything that this instance received.
    pub(crate) fn cursor(&self) -> Cursor {
        let state = self.state.lock();
        state.ring.cursor_before(state.ring.end())
    }
}

#[cfg(test)]
mod tests;
