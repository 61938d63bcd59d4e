//! The memory that the queues of all streams take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of each queue that do not count. Most queues never grow beyond.
const UNCOUNTED: usize = 4 * 1_024;

/// The limit on the bytes of all queues.
#[derive(Debug)]
pub(crate) struct QueueMemory {
    limit: usize,
    taken: AtomicUsize,
}

impl QueueMemory {
    pub(crate) fn with_limit(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: bytes,
            taken: AtomicUsize::new(0),
        })
    }
}

/// The part of one stream in [`QueueMemory`].
#[derive(Debug)]
pub(crate) struct QueueShare {
    of: Arc<QueueMemory>,
    taken: usize,
}

impl QueueShare {
    pub(crate) fn of(memory: &Arc<QueueMemory>) -> Self {
        Self {
            of: Arc::clone(memory),
            taken: 0,
        }
    }

    /// Sets the size of the queues of the stream. Returns false if all queues together exceed the
    /// limit; the queues must then be dropped.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        let counted = bytes.saturating_sub(UNCOUNTED);
        let before = self.taken;
        self.taken = counted;
        if counted == before {
            return true;
        }
        if counted < before {
            self.of.taken.fetch_sub(before - counted, Ordering::Relaxed);
            return true;
        }
        let more = counted - before;
        self.of.taken.fetch_add(more, Ordering::Relaxed) + more <= self.of.limit
    }
}

impl Drop for QueueShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_queues_share_the_memory_and_short_queues_do_not_count() {
        let memory = QueueMemory::with_limit(100);
        let mut shares = [(); 3].map(|()| QueueShare::of(&memory));
        assert!(shares[0].set(UNCOUNTED + 100));
        assert!(shares[1].set(UNCOUNTED));
        assert!(!shares[1].set(UNCOUNTED + 1));
        shares[1].set(0);
        assert!(shares[0].set(UNCOUNTED + 40));
        assert!(shares[2].set(UNCOUNTED + 60));
        drop(shares);
        assert_eq!(memory.taken.load(Ordering::Relaxed), 0);
    }
}
