//! InFlight of HTTP/1 connections with a request, and who gives one up when others wait.
//!
//! A client that sends its body slowly, or does not take its answer, holds a place for as long as nobody else needs
//! it. When others wait, those that have moved the fewest bytes for longest are cut off first.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::activity::RequestActivity;

/// How long a client may hold up its request or answer while others wait for a place.
const STALL: Duration = Duration::from_millis(250);

/// The same where most places are held up: then it is no accident.
const STALL_OF_MOST: Duration = Duration::from_millis(100);

/// How often those who wait look for clients that hold up a place.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The places of a listener.
#[derive(Debug)]
pub(super) struct InFlight {
    all: Arc<Semaphore>,
    /// Half of them: for requests whose body has not arrived yet. The rest stays free for requests that are complete.
    incomplete: Arc<Semaphore>,
    waiting: AtomicUsize,
    holders: Mutex<Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    next: u64,
    talks: HashMap<u64, Arc<RequestActivity>>,
    looked: Option<Instant>,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct InFlightPermit {
    places: Arc<InFlight>,
    number: u64,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

/// Counts one that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl InFlight {
    /// So many places.
    pub(super) fn of(most: usize) -> Arc<Self> {
        let most = most.clamp(2, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            all: Arc::new(Semaphore::new(most)),
            incomplete: Arc::new(Semaphore::new(most / 2)),
            waiting: AtomicUsize::new(0),
            holders: Mutex::default(),
        })
    }

    /// Whether others may be waiting for a place.
    pub(super) fn are_taken(&self) -> bool {
        self.all.available_permits() == 0
    }

    /// A place for a request, which has arrived as a whole if `is_complete`. Those who wait get theirs in the order
    /// in which they came.
    pub(super) async fn take(self: &Arc<Self>, is_complete: bool) -> InFlightPermit {
        let permits = self.permits(is_complete).await;
        let mut holders = self.holders.lock();
        holders.next += 1;
        InFlightPermit {
            places: Arc::clone(self),
            number: holders.next,
            _permits: permits,
        }
    }

    async fn permits(
        &self,
        is_complete: bool,
    ) -> (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>) {
        if is_complete && let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() {
            return (permit, None);
        }
        let _waiting = Waiting::among(&self.waiting);
        let permits = async {
            let incomplete = match is_complete {
                true => None,
                false => Some(permit_of(&self.incomplete).await),
            };
            (permit_of(&self.all).await, incomplete)
        };
        let mut permits = Box::pin(permits);
        loop {
            tokio::select! {
                biased;
                permits = &mut permits => return permits,
                () = sleep(LOOK_INTERVAL) => self.cut_off_stalled(),
            }
        }
    }

    /// Cuts off as many as others wait, those that have stalled longest first.
    fn cut_off_stalled(&self) {
        let mut holders = self.holders.lock();
        let now = Instant::now();
        if holders
            .looked
            .is_some_and(|looked| now - looked < LOOK_INTERVAL)
        {
            return;
        }
        holders.looked = Some(now);
        let stalled = holders.talks.values();
        let stalled = stalled.filter_map(|talk| Some((now - talk.stalled_since()?, talk)));
        let mut stalled: Vec<_> = stalled.collect();
        let patience = match stalled.len() > holders.talks.len() / 2 {
            true => STALL_OF_MOST,
            false => STALL,
        };
        stalled.retain(|(time, _)| *time >= patience);
        stalled.sort_by_key(|(time, _)| Reverse(*time));
        let most = self.waiting.load(Ordering::Relaxed);
        stalled
            .iter()
            .take(most)
            .for_each(|(_, talk)| talk.cut_off());
    }
}

async fn permit_of(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = Arc::clone(semaphore).acquire_owned().await;
    permit.expect("it is never closed")
}

impl InFlightPermit {
    /// Gives the place up when this connection stalls while others wait.
    pub(super) fn watch(&self, talk: &Arc<RequestActivity>) {
        let mut holders = self.places.holders.lock();
        holders.talks.insert(self.number, Arc::clone(talk));
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        self.places.holders.lock().talks.remove(&self.number);
    }
}

impl<'a> Waiting<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
