use std::sync::atomic::{AtomicU64, Ordering};

/// What this instance knows of its grant: the number that its TTL and ping interval have in the store.
#[derive(Debug, Default)]
pub(super) struct Grant {
    /// 0 until the first sweep.
    number: AtomicU64,
}

impl Grant {
    /// The number, or 0 if it is not known yet.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Takes over what a sweep found.
    pub(super) fn set(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }
}
