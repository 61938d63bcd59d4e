//! The memory of HTTP/1 requests that have arrived in part.
//!
//! A request takes no permit before it has arrived. Until then its bytes count here. When the bytes exceed the limit,
//! the connections that have waited for longest are closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The memory of a partial request beside its bytes: the state of a task, timers, and an entry here. In bytes.
const ENTRY_BYTES: usize = 1_024;

/// All partial requests of a listener.
#[derive(Debug)]
pub(super) struct PartialRequests {
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    bytes: usize,
    by_age: BTreeMap<u64, (usize, Arc<Notify>)>,
}

/// A partial request, which counts until this is dropped.
#[derive(Debug)]
pub(super) struct PartialRequest {
    all: Arc<PartialRequests>,
    number: u64,
    evicted: Arc<Notify>,
}

impl PartialRequests {
    /// Allows `max_bytes` for all partial requests together.
    pub(super) fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            max_bytes,
            state: Mutex::default(),
        })
    }

    /// Adds a request, which counts no bytes yet.
    pub(super) fn begin(self: &Arc<Self>) -> PartialRequest {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        let evicted = Arc::<Notify>::default();
        state.by_age.insert(number, (0, Arc::clone(&evicted)));
        PartialRequest {
            all: Arc::clone(self),
            number,
            evicted,
        }
    }
}

impl PartialRequest {
    /// Sets the size of the buffer of this request.
    pub(super) fn set_bytes(&self, bytes: usize) {
        let mut state = self.all.state.lock();
        let Some((counted, _)) = state.by_age.get_mut(&self.number) else {
            return;
        };
        let before = std::mem::replace(counted, bytes + ENTRY_BYTES);
        state.bytes += bytes + ENTRY_BYTES;
        state.bytes -= before;
        while state.bytes > self.all.max_bytes
            && let Some((_, (bytes, evicted))) = state.by_age.pop_first()
        {
            state.bytes -= bytes;
            evicted.notify_one();
        }
    }

    /// Resolves once the connection must be closed in favour of others.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for PartialRequest {
    fn drop(&mut self) {
        let mut state = self.all.state.lock();
        if let Some((bytes, _)) = state.by_age.remove(&self.number) {
            state.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_partial_request_makes_room_for_the_next() {
        let all = PartialRequests::new(10 * ENTRY_BYTES);
        let old = all.begin();
        old.set_bytes(4 * ENTRY_BYTES);
        let young = all.begin();
        young.set_bytes(4 * ENTRY_BYTES);
        let is_evicted = |request: &PartialRequest| request.evicted().now_or_never().is_some();
        assert!(!is_evicted(&old) && !is_evicted(&young));
        young.set_bytes(5 * ENTRY_BYTES);
        assert!(is_evicted(&old) && !is_evicted(&young));
        drop(old);
        drop(young);
        assert_eq!(all.state.lock().bytes, 0);
    }
}
