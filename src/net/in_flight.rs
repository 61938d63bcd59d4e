//! The limit on connections that hyper serves, and the eviction of slow clients.
//!
//! A client that sends its body slowly, or does not read its response, keeps its permit for as long as no other
//! connection needs one. When connections wait for a permit, the clients that have made no progress for longest are
//! evicted first. Too little memory for a request evicts them too. An HTTP/2 connection is evicted only while all its
//! requests wait for the client, or it has none.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::activity::RequestActivity;

/// How long a client may make no progress while connections wait for a permit.
const STALL: Duration = Duration::from_millis(250);

/// The same if most clients make no progress, which is hardly an accident.
const STALL_OF_MOST: Duration = Duration::from_millis(100);

/// The most connections that are evicted at once because there is too little memory or no place for a new one.
const EVICTIONS_FOR_ROOM: usize = 16;

/// How often waiting connections look for stalled clients.
const EVICTION_INTERVAL: Duration = Duration::from_millis(50);

/// The connections of one protocol that may be served at the same time.
#[derive(Debug)]
pub(super) struct InFlight {
    new_activity: fn() -> Arc<RequestActivity>,
    all: Arc<Semaphore>,
    /// Half of `all`, for requests whose body has not arrived. The other half is for complete requests.
    partial: Arc<Semaphore>,
    /// The connections that wait for a permit.
    waiting: TaskTracker,
    holders: Mutex<Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    next: u64,
    activities: HashMap<u64, Arc<RequestActivity>>,
    last_eviction: Option<Instant>,
}

/// A permit of `all` and, if the body has not arrived, one of `partial`.
type Permits = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// The permit of a connection, until this is dropped.
#[derive(Debug)]
pub(super) struct InFlightPermit {
    /// The activity of the connection. A stalled connection is evicted by it.
    pub(super) activity: Arc<RequestActivity>,
    in_flight: Arc<InFlight>,
    number: u64,
    _permits: Permits,
}

impl InFlight {
    /// The limit for HTTP/1 connections.
    pub(super) fn http1(max: usize) -> Arc<Self> {
        Self::new(max, RequestActivity::http1)
    }

    /// The limit for HTTP/2 connections.
    pub(super) fn http2(max: usize) -> Arc<Self> {
        Self::new(max, RequestActivity::http2)
    }

    fn new(max: usize, new_activity: fn() -> Arc<RequestActivity>) -> Arc<Self> {
        let max = max.clamp(2, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            new_activity,
            all: Arc::new(Semaphore::new(max)),
            partial: Arc::new(Semaphore::new(max / 2)),
            waiting: TaskTracker::new(),
            holders: Mutex::default(),
        })
    }

    /// Whether connections may be waiting for a permit.
    pub(super) fn is_full(&self) -> bool {
        self.all.available_permits() == 0
    }

    /// Whether connections wait for a permit.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Waits for a permit, first come, first served. `is_complete` tells whether the whole request has arrived.
    pub(super) async fn acquire(self: &Arc<Self>, is_complete: bool) -> InFlightPermit {
        let permits = self.permits(is_complete).await;
        self.hold(permits)
    }

    /// Returns a permit if there is one now.
    pub(super) fn try_acquire(self: &Arc<Self>, is_complete: bool) -> Option<InFlightPermit> {
        Some(self.hold(self.try_permits(is_complete)?))
    }

    fn hold(self: &Arc<Self>, permits: Permits) -> InFlightPermit {
        let activity = (self.new_activity)();
        let mut holders = self.holders.lock();
        holders.next += 1;
        let number = holders.next;
        holders.activities.insert(number, Arc::clone(&activity));
        InFlightPermit {
            activity,
            in_flight: Arc::clone(self),
            number,
            _permits: permits,
        }
    }

    fn try_permits(&self, is_complete: bool) -> Option<Permits> {
        let partial = if is_complete {
            None
        } else {
            Some(Arc::clone(&self.partial).try_acquire_owned().ok()?)
        };
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some((permit, partial))
    }

    async fn permits(&self, is_complete: bool) -> Permits {
        if let Some(permits) = self.try_permits(is_complete) {
            return permits;
        }
        let _waiting = self.waiting.token();
        let permits = async {
            let partial = if is_complete {
                None
            } else {
                Some(acquire(&self.partial).await)
            };
            (acquire(&self.all).await, partial)
        };
        let mut permits = Box::pin(permits);
        loop {
            tokio::select! {
                biased;
                permits = &mut permits => return permits,
                () = sleep(EVICTION_INTERVAL) => self.evict_stalled(self.waiting.len(), |_| true),
            }
        }
    }

    /// Evicts connections whose requests wait for the client, so that their memory becomes free. Does nothing if
    /// connections were evicted just now.
    pub(super) fn free_memory(&self) {
        self.evict_stalled(EVICTIONS_FOR_ROOM, |activity| activity.in_progress() > 0);
    }

    /// Evicts stalled connections to free their places, also connections without a request.
    pub(super) fn free_places(&self) {
        self.evict_stalled(EVICTIONS_FOR_ROOM, |_| true);
    }

    /// Evicts at most `most` connections that `may_evict`, those that have been stalled for longest first.
    fn evict_stalled(&self, most: usize, may_evict: fn(&RequestActivity) -> bool) {
        let mut holders = self.holders.lock();
        let now = Instant::now();
        let is_early = |last: Instant| now - last < EVICTION_INTERVAL;
        if holders.last_eviction.is_some_and(is_early) {
            return;
        }
        holders.last_eviction = Some(now);
        let stalled = holders.activities.values();
        let stalled = stalled.filter(|activity| may_evict(activity));
        let stalled =
            stalled.filter_map(|activity| Some((now - activity.stalled_since()?, activity)));
        let mut stalled: Vec<_> = stalled.collect();
        let shortest = if stalled.len() > holders.activities.len() / 2 {
            STALL_OF_MOST
        } else {
            STALL
        };
        stalled.retain(|(time, _)| *time >= shortest);
        stalled.sort_by_key(|(time, _)| Reverse(*time));
        for (_, activity) in stalled.iter().take(most) {
            activity.evict();
        }
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = Arc::clone(semaphore).acquire_owned().await;
    permit.expect("the semaphore is never closed")
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        self.in_flight
            .holders
            .lock()
            .activities
            .remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_is_idle_for_longest_makes_room() {
        let in_flight = InFlight::http2(2);
        let first = in_flight.acquire(true).await;
        sleep(EVICTION_INTERVAL).await;
        let second = in_flight.acquire(true).await;
        let _request = first.activity.begin_request();
        let next = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.acquire(true).await }
        });
        second.activity.evicted().await;
        assert!(first.activity.evicted().now_or_never().is_none());
        drop(second);
        next.await.expect("no panic");
    }

    fn is_evicted(permit: &InFlightPermit) -> bool {
        permit.activity.evicted().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_write_is_evicted_only_on_http1() {
        for (in_flight, evicts) in [(InFlight::http1(2), true), (InFlight::http2(2), false)] {
            let permits = [in_flight.acquire(true).await, in_flight.acquire(true).await];
            let _requests = permits
                .each_ref()
                .map(|permit| permit.activity.begin_request());
            permits[0].activity.record_blocked_write();
            let waited = tokio::time::timeout(STALL * 2, in_flight.acquire(true)).await;
            assert!(waited.is_err());
            assert_eq!(is_evicted(&permits[0]), evicts);
            assert!(!is_evicted(&permits[1]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_evicted_if_all_its_requests_wait_for_the_client() {
        for in_flight in [InFlight::http1(2), InFlight::http2(2)] {
            let permits = [in_flight.acquire(true).await, in_flight.acquire(true).await];
            let mut waiting = permits
                .each_ref()
                .map(|permit| permit.activity.begin_request());
            let _served = permits[1].activity.begin_request();
            for request in &mut waiting {
                request.set_waits(true);
            }
            sleep(STALL).await;
            in_flight.free_memory();
            assert!(is_evicted(&permits[0]));
            assert!(!is_evicted(&permits[1]), "a request is being served");
            sleep(EVICTION_INTERVAL).await;
            for request in &mut waiting {
                request.set_waits(false);
            }
            in_flight.free_memory();
            assert!(!is_evicted(&permits[0]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn too_little_memory_evicts_no_idle_connection() {
        let in_flight = InFlight::http2(2);
        let idle = in_flight.acquire(true).await;
        sleep(STALL).await;
        in_flight.free_memory();
        assert!(!is_evicted(&idle));
        sleep(EVICTION_INTERVAL).await;
        in_flight.free_places();
        assert!(is_evicted(&idle), "its place is needed");
    }
}
