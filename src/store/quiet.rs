//! Which partitions are quiet, and the time until which this instance was ready to serve calls about them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};

use tokio::sync::Notify;

use crate::model::{Epoch, Partition, PartitionSet, Partitions, Position, Timestamp};

/// The partition is not quiet, and nothing happened in it since the last sweep began.
const BUSY: u8 = 0;
/// Something happened in the partition since the last sweep began.
const DISTURBED: u8 = 1;
/// The partition is quiet.
const QUIET: u8 = 2;

/// The quiet partitions of an instance. A partition is *quiet* after a sweep until the instance gets a message about
/// it, or a call about it that is no steady ping. Meanwhile the sweeper waits for the next user that is due, and sweeps
/// nothing.
///
/// A quiet instance still answers calls, so a time without sweeps is no outage. `Quiet` keeps the time until which the
/// instance was ready to serve for sure. The scripts of the instance receive this time.
pub(crate) struct Quiet {
    parts: Box<[Part]>,
    disturbed: Notify,
}

/// What a look at quiet partitions asks for besides the epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// The newest position in the history of the partition whose turn it is.
    pub(crate) newest: bool,
    /// The time of the store.
    pub(crate) time: bool,
}

/// The answer to a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The epoch of each partition that was looked at; `None` where data were lost, or where the store has another
    /// number of partitions.
    pub(crate) epochs: Vec<(Partition, Option<Epoch>)>,
    /// The newest position in the history of the partition whose turn it is, if it was asked for.
    pub(crate) newest: Option<Position>,
    /// The time of the store, if it was asked for.
    pub(crate) time: Option<Timestamp>,
}

/// What is kept of one partition.
struct Part {
    state: AtomicU8,
    /// Until when the instance swept or was ready to serve, in milliseconds of the clock of the store.
    covered_until: AtomicU64,
    /// Whether a message arrived that [`Quiet::take_news`] has not returned yet.
    has_news: AtomicBool,
}

impl Quiet {
    pub(super) fn new(partitions: Partitions) -> Self {
        let part = |_| Part {
            state: AtomicU8::new(BUSY),
            covered_until: AtomicU64::new(0),
            has_news: AtomicBool::new(true),
        };
        Self {
            parts: partitions.all().map(part).collect(),
            disturbed: Notify::new(),
        }
    }

    /// Notes that something happens in a partition: a user may be due earlier than the sweeper knows. A call must count
    /// as waiting for the store before it notes this.
    pub(super) fn disturb(&self, partition: Partition) {
        let Some(part) = self.parts.get(partition.index()) else {
            return;
        };
        // The call counts as waiting already. Either it finds that an earlier note was taken, and notes again; or the
        // sweeper, which looks at the waiting calls after `take_disturbance`, finds this call.
        fence(Ordering::SeqCst);
        if part.state.load(Ordering::Relaxed) == DISTURBED {
            return;
        }
        if part.state.swap(DISTURBED, Ordering::AcqRel) == QUIET {
            self.disturbed.notify_waiters();
        }
    }

    /// Notes that a message about a partition arrived.
    pub(super) fn note_news(&self, partition: Partition) {
        if let Some(part) = self.parts.get(partition.index()) {
            part.has_news.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a message about a partition arrived since the last call. Also true at the first call.
    pub(super) fn take_news(&self, partition: Partition) -> bool {
        let part = self.parts.get(partition.index());
        part.is_some_and(|part| part.has_news.swap(false, Ordering::Relaxed))
    }

    /// Forgets what happened in a partition so far, because a sweep begins.
    pub(crate) fn take_disturbance(&self, partition: Partition) {
        self.change(partition, DISTURBED, BUSY);
        fence(Ordering::SeqCst);
    }

    /// Makes a partition quiet, unless something happened since [`Quiet::take_disturbance`]. Returns whether it is
    /// quiet.
    pub(crate) fn settle(&self, partition: Partition) -> bool {
        self.change(partition, BUSY, QUIET) || self.is_in(partition, QUIET)
    }

    /// Waits until something happens in one of these quiet partitions. Returns where it did.
    pub(crate) async fn disturbed(&self, partitions: PartitionSet) -> PartitionSet {
        loop {
            let mut notified = std::pin::pin!(self.disturbed.notified());
            // From here on a disturbance is not missed.
            notified.as_mut().enable();
            let disturbed: PartitionSet = partitions
                .iter()
                .filter(|each| !self.is_in(*each, QUIET))
                .collect();
            if !disturbed.is_empty() {
                return disturbed;
            }
            notified.await;
        }
    }

    /// Notes that this instance swept a partition, or was ready to serve ever since it did, until `time`.
    pub(crate) fn cover(&self, partition: Partition, time: Timestamp) {
        if let Some(part) = self.parts.get(partition.index()) {
            part.covered_until
                .store(time.as_millis(), Ordering::Relaxed);
        }
    }

    /// What [`Quiet::cover`] noted last.
    pub(crate) fn covered_until(&self, partition: Partition) -> Timestamp {
        let part = self.parts.get(partition.index());
        let covered = part.map_or(0, |part| part.covered_until.load(Ordering::Relaxed));
        Timestamp::from_millis(covered)
    }

    fn is_in(&self, partition: Partition, state: u8) -> bool {
        let part = self.parts.get(partition.index());
        part.is_some_and(|part| part.state.load(Ordering::Acquire) == state)
    }

    fn change(&self, partition: Partition, from: u8, to: u8) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let part = self.parts.get(partition.index());
        part.is_some_and(|part| {
            part.state
                .compare_exchange(from, to, success, failure)
                .is_ok()
        })
    }
}

impl fmt::Debug for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quiet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disturbance_is_never_missed() {
        let partitions = Partitions::new(16).expect("a number");
        let quiet = Quiet::new(partitions);
        let first = Partition::FIRST;
        let second = partitions.get(5).expect("one of 16");
        let both: PartitionSet = [first, second].into_iter().collect();
        assert!(quiet.settle(first) && quiet.settle(first) && quiet.settle(second));
        let (disturbed, ()) = tokio::join!(quiet.disturbed(both), async {
            quiet.disturb(second);
        });
        assert_eq!(disturbed.iter().collect::<Vec<_>>(), [second]);
        assert!(!quiet.settle(second), "the call came before the sweep");
        quiet.take_disturbance(second);
        quiet.disturb(second);
        assert!(!quiet.settle(second), "the call came during the sweep");
        quiet.take_disturbance(second);
        assert!(quiet.settle(second));
    }

    #[test]
    fn each_partition_has_its_own_time_and_news() {
        let quiet = Quiet::new(Partitions::new(16).expect("a number"));
        assert!(quiet.take_news(Partition::FIRST) && !quiet.take_news(Partition::FIRST));
        quiet.note_news(Partition::FIRST);
        assert!(quiet.take_news(Partition::FIRST));
        quiet.cover(Partition::FIRST, Timestamp::from_millis(7));
        assert_eq!(quiet.covered_until(Partition::FIRST).as_millis(), 7);
    }
}
