//! Sweeps of several partitions that begin together.

use tokio::sync::Semaphore;

use crate::store::policy::SWEEP_BATCH;

/// How many partitions of a node are swept at the same time after their scripts began the sweep.
const SWEEPS_AT_ONCE: usize = 4;

/// The sweeps of several partitions of a node that begin together.
pub(in crate::store::redis) struct Round {
    pub(in crate::store::redis) at_once: Semaphore,
    /// How many due users each of them checks.
    pub(in crate::store::redis) batch: u64,
}

impl Round {
    /// A round over this many partitions. All batches together are bounded: a round that took longer than an outage
    /// would be one for the partitions at its end.
    pub(in crate::store::redis) fn of(partitions: usize) -> Self {
        let batch = SWEEPS_AT_ONCE * SWEEP_BATCH / partitions.max(SWEEPS_AT_ONCE);
        Self {
            at_once: Semaphore::new(SWEEPS_AT_ONCE),
            batch: batch as u64,
        }
    }
}
