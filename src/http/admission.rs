//! Paces the opening of streams.
//!
//! Opening a stream costs many times as much as a ping. When thousands of clients reconnect at
//! once, as after the loss of an instance, their openings are spread over a few seconds, so that a
//! call waits behind one opening and not behind all of them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// The time between two openings. It is shorter in two cases: if so many clients wait that the last
/// one would otherwise wait longer than [`CROWD_TIME`]; and if so many come all the time that a
/// queue would remain, as with clients that read events as JSON.
const INTERVAL: Duration = Duration::from_millis(2);

/// The time in which all waiting clients are admitted, however many there are.
const CROWD_TIME: Duration = Duration::from_millis(4_500);

/// The time over which the rate of requests is averaged. It is so much longer than [`CROWD_TIME`] that
/// not even three crowds, one after the other, are admitted faster for it.
const AVERAGED: Duration = Duration::from_secs(30);

/// How far the pace may fall behind and still catch up. On a busy machine, timers are late by more
/// than ten milliseconds. Then all openings that are due begin at once.
const CATCH_UP: Duration = Duration::from_millis(25);

/// The queue of clients that wait for admission, and the limit on concurrent openings.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The client at the front of the queue holds the only permit.
    front: Semaphore,
    pace: Mutex<Pace>,
    openings: Arc<Semaphore>,
}

/// A permit to open a stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpeningPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Default)]
struct Pace {
    waiting: usize,
    /// The largest number of waiting clients since the queue was last empty.
    crowd: usize,
    /// When the next opening may begin.
    next: Option<Instant>,
    requests: AverageRate,
}

/// The average rate of requests. The weight of a request falls to 37 % in [`AVERAGED`].
#[derive(Debug, Default)]
struct AverageRate {
    per_second: f64,
    noted: Option<Instant>,
}

impl AverageRate {
    fn note(&mut self, now: Instant) {
        let averaged = AVERAGED.as_secs_f64();
        let passed = self.noted.map_or(Duration::ZERO, |noted| now - noted);
        let weight = (-passed.as_secs_f64() / averaged).exp();
        self.per_second = self.per_second * weight + 1.0 / averaged;
        self.noted = Some(now);
    }

    /// The interval of twice as many requests.
    fn half_interval(&self) -> Duration {
        Duration::try_from_secs_f64(0.5 / self.per_second).unwrap_or(Duration::MAX)
    }
}

impl Pace {
    /// Returns when the client at the front may begin, and schedules the next one.
    fn begin(&mut self, now: Instant) -> Instant {
        let crowd = u32::try_from(self.crowd.max(1)).unwrap_or(u32::MAX);
        let interval = INTERVAL
            .min(CROWD_TIME / crowd)
            .min(self.requests.half_interval());
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let begin = self.next.map_or(now, |next| next.max(earliest));
        self.next = Some(begin + interval);
        begin
    }
}

/// Counts a waiting client until it is dropped.
struct WaitingClient<'a>(&'a Mutex<Pace>);

impl<'a> WaitingClient<'a> {
    fn count(pace: &'a Mutex<Pace>) -> Self {
        let mut state = pace.lock();
        state.waiting += 1;
        state.crowd = state.crowd.max(state.waiting);
        state.requests.note(Instant::now());
        Self(pace)
    }
}

impl Drop for WaitingClient<'_> {
    fn drop(&mut self) {
        let mut pace = self.0.lock();
        pace.waiting -= 1;
        if pace.waiting == 0 {
            pace.crowd = 0;
        }
    }
}

impl Admission {
    /// Allows `concurrent` openings at the same time.
    pub(crate) fn new(concurrent: usize) -> Self {
        Self {
            front: Semaphore::new(1),
            pace: Mutex::default(),
            openings: Arc::new(Semaphore::new(concurrent)),
        }
    }

    /// Returns an admission that admits no client.
    #[cfg(test)]
    pub(crate) fn closed() -> Self {
        Self {
            front: Semaphore::new(0),
            ..Self::new(1)
        }
    }

    /// Waits for admission, in the order of arrival. A client that stops waiting leaves the queue.
    pub(crate) async fn admitted(&self) {
        let _waiting = WaitingClient::count(&self.pace);
        // A closed semaphore means that the service ends. Then no client waits any more.
        let Ok(_front) = self.front.acquire().await else {
            return;
        };
        let now = Instant::now();
        let begin = self.pace.lock().begin(now);
        if begin > now {
            sleep_until(begin).await;
        }
    }

    /// Waits until the number of concurrent openings permits one more.
    pub(crate) async fn opening_permit(&self) -> OpeningPermit {
        OpeningPermit {
            _permit: Arc::clone(&self.openings).acquire_owned().await.ok(),
        }
    }

    /// Admits all clients at once, now and later, because the service ends.
    pub(crate) fn end(&self) {
        self.front.close();
        self.openings.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    /// Returns how long each of several simultaneous clients waits.
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
    async fn a_single_client_does_not_wait() {
        let admission = Admission::new(1);
        for _ in 0..10 {
            admission.admitted().now_or_never().expect("no wait");
            tokio::time::sleep(INTERVAL).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn simultaneous_clients_are_admitted_one_by_one_in_order() {
        let waits = waits(100).await;
        for (number, wait) in (0_u32..).zip(&waits) {
            let due = INTERVAL * number;
            assert!((due..due + CATCH_UP).contains(wait), "{number}: {wait:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_larger_crowd_is_admitted_in_the_same_time() {
        for count in [5_000, 20_000] {
            let waits = waits(count).await;
            let last = waits[count - 1];
            // The first two openings are scheduled before the crowd is counted.
            let expected = CROWD_TIME - CATCH_UP..CROWD_TIME + INTERVAL * 2 + CATCH_UP;
            assert!(expected.contains(&last), "{last:?}");
            assert!(waits.is_sorted());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_come_at_a_steady_rate_do_not_wait_for_long() {
        let admission = Arc::new(Admission::new(1));
        let mut clients = Vec::new();
        for _ in 0..60_000 {
            let admission = Arc::clone(&admission);
            clients.push(tokio::spawn(async move {
                let began = Instant::now();
                admission.admitted().await;
                began.elapsed()
            }));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waits = join_all(clients).await;
        let waits: Vec<_> = waits
            .into_iter()
            .map(|wait| wait.expect("an end"))
            .collect();
        let longest = waits.iter().max().expect("a client");
        assert!(*longest <= CROWD_TIME + CATCH_UP, "{longest:?}");
        let longest = waits[55_000..].iter().max().expect("a client");
        assert!(*longest <= Duration::from_millis(10), "{longest:?}");
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
    async fn a_dropped_permit_goes_to_the_next_client() {
        let admission = Admission::new(1);
        let permit = admission.opening_permit().await;
        assert!(admission.opening_permit().now_or_never().is_none());
        drop(permit);
        assert!(admission.opening_permit().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn no_client_waits_once_the_service_ends() {
        let admission = Admission::new(1);
        let _permit = admission.opening_permit().await;
        admission.admitted().await;
        let mut clients: Vec<_> = (0..100).map(|_| Box::pin(admission.admitted())).collect();
        for client in &mut clients {
            assert!(client.as_mut().now_or_never().is_none());
        }
        let mut permit = Box::pin(admission.opening_permit());
        assert!((&mut permit).now_or_never().is_none());
        admission.end();
        let began = Instant::now();
        join_all(clients).await;
        permit.await;
        assert!(began.elapsed() <= INTERVAL * 2);
    }
}
