//! In which order, and how fast, streams are opened.
//!
//! An opening costs many times what a ping costs. When thousands of clients ask at once, as after the loss of an
//! instance, their openings are spread over a few seconds, so that a call waits behind one opening and not behind
//! all of them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// The time between two openings, unless so many clients wait that the last one would wait for longer than
/// [`CROWD_TIME`].
const INTERVAL: Duration = Duration::from_millis(1);

/// In how long a crowd of clients is admitted, however large it is.
const CROWD_TIME: Duration = Duration::from_millis(3_500);

/// How far the pace may be behind and still catch up: timers are late by about a millisecond.
const CATCH_UP: Duration = Duration::from_millis(4);

/// The streams that wait to be opened, and the streams that are being opened.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The client at the front of the queue holds the only permit.
    front: Semaphore,
    pace: Mutex<Pace>,
    turns: Arc<Semaphore>,
}

/// A permit to open a stream; the next client gets it when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Default)]
struct Pace {
    waiting: usize,
    /// The most clients that waited together since the queue was empty.
    crowd: usize,
    /// When the next opening may begin.
    next: Option<Instant>,
}

impl Pace {
    /// When the client at the front may begin.
    fn begin(&mut self, now: Instant) -> Instant {
        let crowd = u32::try_from(self.crowd.max(1)).unwrap_or(u32::MAX);
        let interval = INTERVAL.min(CROWD_TIME / crowd);
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let begin = self.next.map_or(now, |next| next.max(earliest));
        self.next = Some(begin + interval);
        begin
    }
}

/// Counts a waiting client until it is dropped.
struct Waiting<'a>(&'a Mutex<Pace>);

impl<'a> Waiting<'a> {
    fn counted_in(pace: &'a Mutex<Pace>) -> Self {
        let mut counted = pace.lock();
        counted.waiting += 1;
        counted.crowd = counted.crowd.max(counted.waiting);
        Self(pace)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut pace = self.0.lock();
        pace.waiting -= 1;
        if pace.waiting == 0 {
            pace.crowd = 0;
        }
    }
}

impl Admission {
    /// Lets `at_once` streams be opened at the same time.
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            front: Semaphore::new(1),
            pace: Mutex::default(),
            turns: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// Admits nobody.
    #[cfg(test)]
    pub(crate) fn closed() -> Self {
        Self {
            front: Semaphore::new(0),
            ..Self::new(1)
        }
    }

    /// Waits behind the clients that came before. A client that stops waiting leaves the queue.
    pub(crate) async fn admitted(&self) {
        let _waiting = Waiting::counted_in(&self.pace);
        // An error means that the service is about to end, and nobody waits any more.
        let Ok(_front) = self.front.acquire().await else {
            return;
        };
        let now = Instant::now();
        let begin = self.pace.lock().begin(now);
        if begin > now {
            sleep_until(begin).await;
        }
    }

    /// Waits until one more stream may be opened.
    pub(crate) async fn turn(&self) -> Turn {
        Turn {
            _permit: Arc::clone(&self.turns).acquire_owned().await.ok(),
        }
    }

    /// Ends all waiting, now and later, because the service is about to end.
    pub(crate) fn end(&self) {
        self.front.close();
        self.turns.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    /// How long clients wait that come together.
    async fn waits(count: usize) -> Vec<Duration> {
        let admission = Admission::new(1);
        let began = Instant::now();
        let clients = (0..count).map(|_| async {
            admission.admitted().await;
            began.elapsed()
        });
        join_all(clients).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_comes_alone_does_not_wait() {
        let admission = Admission::new(1);
        for _ in 0..10 {
            admission.admitted().now_or_never().expect("no wait");
            tokio::time::sleep(INTERVAL).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_come_together_are_admitted_in_order_and_one_at_a_time() {
        let waits = waits(100).await;
        for (number, wait) in (0_u32..).zip(&waits) {
            let due = INTERVAL * number;
            assert!((due..due + CATCH_UP).contains(wait), "{number}: {wait:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_larger_crowd_waits_no_longer() {
        for count in [4_000, 20_000] {
            let waits = waits(count).await;
            let last = waits[count - 1];
            let expected = CROWD_TIME - CATCH_UP..CROWD_TIME + CATCH_UP;
            assert!(expected.contains(&last), "{last:?}");
            assert!(waits.is_sorted());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_waiting_leaves_the_queue() {
        let admission = Admission::new(1);
        admission.admitted().await;
        let mut second = Box::pin(admission.admitted());
        let mut third = Box::pin(admission.admitted());
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        let began = Instant::now();
        third.await;
        assert!(began.elapsed() <= INTERVAL * 2);
        assert_eq!(admission.pace.lock().waiting, 0);
        assert_eq!(admission.pace.lock().crowd, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_is_dropped_goes_to_the_next() {
        let admission = Admission::new(1);
        let turn = admission.turn().await;
        assert!(admission.turn().now_or_never().is_none());
        drop(turn);
        assert!(admission.turn().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_once_the_service_is_about_to_end() {
        let admission = Admission::new(1);
        let _turn = admission.turn().await;
        admission.admitted().await;
        let mut clients: Vec<_> = (0..100).map(|_| Box::pin(admission.admitted())).collect();
        for client in &mut clients {
            assert!(client.as_mut().now_or_never().is_none());
        }
        let mut turn = Box::pin(admission.turn());
        assert!((&mut turn).now_or_never().is_none());
        admission.end();
        let began = Instant::now();
        join_all(clients).await;
        turn.await;
        assert!(began.elapsed() <= INTERVAL * 2);
    }
}
