//! How many HTTP/2 connections there may be. Where all places are taken, the one that has been idle for longest gives
//! its place to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::request_limits::MemoryShare;

/// How long a connection waits for the place of another that is told to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Http2Places {
    free: Arc<Semaphore>,
    idle: Mutex<IdleOnes>,
}

#[derive(Debug, Default)]
struct IdleOnes {
    next: u64,
    by_age: BTreeMap<u64, Arc<Notify>>,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Http2Place {
    places: Arc<Http2Places>,
    state: Mutex<State>,
    end: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct State {
    open_requests: u32,
    /// Its number among those that are idle.
    idle: Option<u64>,
}

/// ConnectionGuard until the answer to a request is complete, with what the request takes of the room.
#[derive(Debug)]
pub(super) struct OpenRequest {
    place: Arc<Http2Place>,
    _share: Option<MemoryShare>,
}

impl Http2Places {
    /// So many places.
    pub(super) fn of(most: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
        })
    }

    /// A place; `None` where none is free and no connection is idle.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Arc<Http2Place>> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let (_, end) = self.idle.lock().by_age.pop_first()?;
                end.notify_one();
                let permit = timeout(PATIENCE, Arc::clone(&self.free).acquire_owned()).await;
                permit.ok()?.ok()?
            }
        };
        let place = Http2Place {
            places: Arc::clone(self),
            state: Mutex::default(),
            end: Arc::default(),
            _permit: permit,
        };
        place.rests(&mut place.state.lock());
        Some(Arc::new(place))
    }
}

impl Http2Place {
    /// A request begins, which takes this of the room.
    pub(super) fn begin(self: &Arc<Self>, share: Option<MemoryShare>) -> OpenRequest {
        let mut state = self.state.lock();
        state.open_requests += 1;
        if let Some(number) = state.idle.take() {
            self.places.idle.lock().by_age.remove(&number);
        }
        OpenRequest {
            place: Arc::clone(self),
            _share: share,
        }
    }

    /// Resolves once the connection is to end for the sake of others.
    pub(super) async fn is_to_end(&self) {
        self.end.notified().await;
    }

    fn rests(&self, state: &mut State) {
        let mut idle = self.places.idle.lock();
        idle.next += 1;
        let number = idle.next;
        idle.by_age.insert(number, Arc::clone(&self.end));
        state.idle = Some(number);
    }
}

impl Drop for Http2Place {
    fn drop(&mut self) {
        if let Some(number) = self.state.lock().idle {
            self.places.idle.lock().by_age.remove(&number);
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.place.state.lock();
        state.open_requests -= 1;
        if state.open_requests == 0 {
            self.place.rests(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_one_makes_room_and_one_with_a_request_does_not() {
        let places = Http2Places::of(2);
        let first = places.take().await.expect("a place");
        let second = places.take().await.expect("a place");
        let request = first.begin(None);
        let next = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        second.is_to_end().await;
        drop(second);
        let third = next.await.expect("no panic").expect("a place");
        let busy = third.begin(None);
        assert!(places.take().await.is_none(), "nobody is idle");
        drop(request);
        let fourth = places.take();
        assert!(fourth.await.is_none(), "the first does not end");
        assert!(first.is_to_end().now_or_never().is_some());
        drop(busy);
    }
}
