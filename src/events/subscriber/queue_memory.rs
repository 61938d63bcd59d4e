//! The memory of everything that waits for the readers of streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one queue may take without being counted: nearly every queue is shorter all the time.
const UNCOUNTED: usize = 4 * 1_024;

/// How many bytes the queues of all streams take together, and may take.
#[derive(Debug)]
pub(crate) struct QueueMemory {
    most: usize,
    taken: AtomicUsize,
}

impl QueueMemory {
    pub(crate) fn at_most(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            most: bytes,
            taken: AtomicUsize::new(0),
        })
    }
}

/// What the queues of one stream take of the bound for all.
#[derive(Debug)]
pub(crate) struct QueueShare {
    of: Arc<QueueMemory>,
    taken: usize,
}

impl QueueShare {
    pub(crate) fn of(waiting: &Arc<QueueMemory>) -> Self {
        Self {
            of: Arc::clone(waiting),
            taken: 0,
        }
    }

    /// Counts the queues of the stream as `bytes`; false where there is no room for that, and the
    /// queues have to be dropped.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        let counted = bytes.saturating_sub(UNCOUNTED);
        let before = self.taken;
        self.taken = counted;
        if counted <= before {
            self.of.taken.fetch_sub(before - counted, Ordering::Relaxed);
            return true;
        }
        let more = counted - before;
        self.of.taken.fetch_add(more, Ordering::Relaxed) + more <= self.of.most
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
    fn long_queues_share_the_room_and_short_ones_need_none() {
        let waiting = QueueMemory::at_most(100);
        let mut shares = [(); 3].map(|()| QueueShare::of(&waiting));
        assert!(shares[0].set(UNCOUNTED + 100));
        assert!(shares[1].set(UNCOUNTED));
        assert!(!shares[1].set(UNCOUNTED + 1));
        shares[1].set(0);
        assert!(shares[0].set(UNCOUNTED + 40));
        assert!(shares[2].set(UNCOUNTED + 60));
        drop(shares);
        assert_eq!(waiting.taken.load(Ordering::Relaxed), 0);
    }
}
