use std::sync::atomic::{AtomicU64, Ordering};

/// The number that Redis keeps for the grant of this instance, which is its TTL and ping interval.
#[derive(Debug, Default)]
pub(in crate::store::redis) struct Grant {
    /// 0 before the first sweep.
    number: AtomicU64,
}

impl Grant {
    /// The number; 0 before the first sweep.
    pub(in crate::store::redis) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Stores the number that a sweep returned.
    pub(in crate::store::redis) fn set(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }
}
