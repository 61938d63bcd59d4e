//! Requests that have arrived in part, and what they take of memory together.
//!
//! A connection takes no place before its request has arrived. Until then its bytes are counted here; when they
//! are too many, the one that has been incomplete for longest is cut off.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a request costs here beside its bytes: a task's state, timers, and its entry.
const ENTRY_BYTES: usize = 1_024;

/// All that have arrived in part.
#[derive(Debug)]
pub(super) struct PartialRequests {
    most_bytes: usize,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    next: u64,
    bytes: usize,
    /// By age.
    parts: BTreeMap<u64, (usize, Arc<Notify>)>,
}

/// One that has arrived in part; dropping it gives its bytes back.
#[derive(Debug)]
pub(super) struct PartialRequest {
    gathering: Arc<PartialRequests>,
    number: u64,
    cut_off: Arc<Notify>,
}

impl PartialRequests {
    /// For so many bytes together.
    pub(super) fn of(most_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            most_bytes,
            all: Mutex::default(),
        })
    }

    /// One more, of which nothing is counted yet.
    pub(super) fn begin(self: &Arc<Self>) -> PartialRequest {
        let mut all = self.all.lock();
        let number = all.next;
        all.next += 1;
        let cut_off = Arc::<Notify>::default();
        all.parts.insert(number, (0, Arc::clone(&cut_off)));
        PartialRequest {
            gathering: Arc::clone(self),
            number,
            cut_off,
        }
    }
}

impl PartialRequest {
    /// It takes so many bytes now.
    pub(super) fn takes(&self, bytes: usize) {
        let mut all = self.gathering.all.lock();
        let Some((counted, _)) = all.parts.get_mut(&self.number) else {
            return;
        };
        let before = std::mem::replace(counted, bytes + ENTRY_BYTES);
        all.bytes += bytes + ENTRY_BYTES;
        all.bytes -= before;
        while all.bytes > self.gathering.most_bytes
            && let Some((_, (bytes, cut_off))) = all.parts.pop_first()
        {
            all.bytes -= bytes;
            cut_off.notify_one();
        }
    }

    /// Resolves once it is cut off for the sake of others.
    pub(super) async fn cut_off(&self) {
        self.cut_off.notified().await;
    }
}

impl Drop for PartialRequest {
    fn drop(&mut self) {
        let mut all = self.gathering.all.lock();
        if let Some((bytes, _)) = all.parts.remove(&self.number) {
            all.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_makes_room_for_the_next() {
        let gathering = PartialRequests::of(10 * ENTRY_BYTES);
        let old = gathering.begin();
        old.takes(4 * ENTRY_BYTES);
        let young = gathering.begin();
        young.takes(4 * ENTRY_BYTES);
        let is_cut_off = |part: &PartialRequest| part.cut_off().now_or_never().is_some();
        assert!(!is_cut_off(&old) && !is_cut_off(&young));
        young.takes(5 * ENTRY_BYTES);
        assert!(is_cut_off(&old) && !is_cut_off(&young));
        drop(old);
        drop(young);
        assert_eq!(gathering.all.lock().bytes, 0);
    }
}
