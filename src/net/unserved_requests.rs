//! The memory of HTTP/1 requests without a permit: requests that have arrived in part, and requests that wait for a
//! permit.
//!
//! When their bytes exceed the limit, requests of the kind with more bytes are evicted: of the requests that have
//! arrived in part, the one that began first; of the requests that wait for a permit, the largest. So large requests do
//! not displace small ones.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The memory of a request in addition to its bytes: the state of a task, timers, and an entry here. In bytes.
const ENTRY_BYTES: usize = 1_024;

/// How long a request may have arrived in part while new connections wait for a place.
const PARTIAL_TIME: Duration = Duration::from_millis(500);

/// The most requests that are evicted at once because there is no place for a new connection.
const EVICTIONS_FOR_PLACES: usize = 16;

/// All requests of a listener that have no permit.
#[derive(Debug)]
pub(super) struct UnservedRequests {
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// The requests that have arrived in part, by age.
    partial: Requests<(Instant, u64)>,
    /// The requests that wait for a permit, by size.
    waiting: Requests<(Reverse<usize>, u64)>,
}

/// The requests of one kind, in the order of eviction.
#[derive(Debug)]
struct Requests<K> {
    bytes: usize,
    by_rank: BTreeMap<K, (usize, Arc<Notify>)>,
}

/// The place of a request in the order of eviction.
#[derive(Clone, Copy, Debug)]
enum Rank {
    Partial((Instant, u64)),
    Waiting((Reverse<usize>, u64)),
}

/// A request without a permit, which counts until this is dropped.
#[derive(Debug)]
pub(super) struct UnservedRequest {
    all: Arc<UnservedRequests>,
    rank: Rank,
    evicted: Arc<Notify>,
}

impl UnservedRequests {
    /// Allows `max_bytes` for all requests together.
    pub(super) fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            max_bytes,
            state: Mutex::default(),
        })
    }

    /// Adds a request that has arrived in part, which counts no bytes yet.
    pub(super) fn partial(self: &Arc<Self>) -> UnservedRequest {
        let mut state = self.state.lock();
        let rank = (Instant::now(), state.number());
        let evicted = state.partial.add(rank, 0);
        self.request(Rank::Partial(rank), evicted)
    }

    /// Adds a request that waits for a permit. It has `bytes` bytes.
    pub(super) fn waiting(self: &Arc<Self>, bytes: usize) -> UnservedRequest {
        let mut state = self.state.lock();
        let rank = (Reverse(bytes), state.number());
        let evicted = state.waiting.add(rank, bytes + ENTRY_BYTES);
        state.evict(self.max_bytes);
        self.request(Rank::Waiting(rank), evicted)
    }

    /// Evicts requests that have arrived in part for too long, those that began first, so that their places become
    /// free.
    pub(super) fn free_places(&self) {
        let mut state = self.state.lock();
        for _ in 0..EVICTIONS_FOR_PLACES {
            let first = state.partial.by_rank.first_key_value();
            if first.is_none_or(|((began, _), _)| began.elapsed() < PARTIAL_TIME) {
                return;
            }
            state.partial.evict();
        }
    }

    fn request(self: &Arc<Self>, rank: Rank, evicted: Arc<Notify>) -> UnservedRequest {
        UnservedRequest {
            all: Arc::clone(self),
            rank,
            evicted,
        }
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn evict(&mut self, max_bytes: usize) {
        while self.partial.bytes + self.waiting.bytes > max_bytes {
            if self.partial.bytes > self.waiting.bytes {
                self.partial.evict();
            } else {
                self.waiting.evict();
            }
        }
    }
}

impl<K: Ord> Requests<K> {
    fn add(&mut self, rank: K, bytes: usize) -> Arc<Notify> {
        let evicted = Arc::<Notify>::default();
        self.by_rank.insert(rank, (bytes, Arc::clone(&evicted)));
        self.bytes += bytes;
        evicted
    }

    fn set_bytes(&mut self, rank: &K, bytes: usize) {
        if let Some((counted, _)) = self.by_rank.get_mut(rank) {
            self.bytes -= std::mem::replace(counted, bytes);
            self.bytes += bytes;
        }
    }

    fn remove(&mut self, rank: &K) {
        if let Some((bytes, _)) = self.by_rank.remove(rank) {
            self.bytes -= bytes;
        }
    }

    fn evict(&mut self) {
        if let Some((_, (bytes, evicted))) = self.by_rank.pop_first() {
            self.bytes -= bytes;
            evicted.notify_one();
        }
    }
}

impl<K> Default for Requests<K> {
    fn default() -> Self {
        Self {
            bytes: 0,
            by_rank: BTreeMap::new(),
        }
    }
}

impl UnservedRequest {
    /// Sets the size of the buffer of a request that has arrived in part.
    pub(super) fn set_bytes(&self, bytes: usize) {
        let mut state = self.all.state.lock();
        if let Rank::Partial(rank) = &self.rank {
            state.partial.set_bytes(rank, bytes + ENTRY_BYTES);
        }
        state.evict(self.all.max_bytes);
    }

    /// Resolves once this request must give up its memory in favour of others.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for UnservedRequest {
    fn drop(&mut self) {
        let mut state = self.all.state.lock();
        match &self.rank {
            Rank::Partial(rank) => state.partial.remove(rank),
            Rank::Waiting(rank) => state.waiting.remove(rank),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_evicted(request: &UnservedRequest) -> bool {
        request.evicted().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_partial_request_makes_room_for_the_next() {
        let all = UnservedRequests::new(10 * ENTRY_BYTES);
        let old = all.partial();
        old.set_bytes(4 * ENTRY_BYTES);
        let young = all.partial();
        young.set_bytes(4 * ENTRY_BYTES);
        assert!(!is_evicted(&old) && !is_evicted(&young));
        young.set_bytes(5 * ENTRY_BYTES);
        assert!(is_evicted(&old) && !is_evicted(&young));
        drop((old, young));
        assert_eq!(all.state.lock().partial.bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_arrives_for_too_long_makes_room_for_a_connection() {
        let all = UnservedRequests::new(10 * ENTRY_BYTES);
        let slow = all.partial();
        all.free_places();
        assert!(!is_evicted(&slow), "the rest may be on the way");
        tokio::time::sleep(PARTIAL_TIME).await;
        let young = all.partial();
        all.free_places();
        assert!(is_evicted(&slow) && !is_evicted(&young));
    }

    #[test]
    fn the_largest_request_that_waits_makes_room_for_the_next() {
        let all = UnservedRequests::new(10 * ENTRY_BYTES);
        let small = all.waiting(ENTRY_BYTES);
        let large = all.waiting(4 * ENTRY_BYTES);
        assert!(!is_evicted(&small) && !is_evicted(&large));
        let other = all.waiting(3 * ENTRY_BYTES);
        assert!(!is_evicted(&small) && is_evicted(&large) && !is_evicted(&other));
        drop((small, large, other));
        assert_eq!(all.state.lock().waiting.bytes, 0);
    }

    #[test]
    fn the_kind_of_requests_with_more_bytes_makes_room() {
        let all = UnservedRequests::new(10 * ENTRY_BYTES);
        let waiting = all.waiting(4 * ENTRY_BYTES);
        let partial = all.partial();
        partial.set_bytes(6 * ENTRY_BYTES);
        assert!(!is_evicted(&waiting) && is_evicted(&partial));
        let partial = all.partial();
        partial.set_bytes(3 * ENTRY_BYTES);
        let small = all.waiting(ENTRY_BYTES);
        assert!(is_evicted(&waiting) && !is_evicted(&partial) && !is_evicted(&small));
    }
}
