//! In which order, and how fast, streams are opened.
//!
//! To open a stream costs many times what a ping does. When thousands come at once, as after an instance was lost,
//! a few are opened at a time, so that calls do not wait behind all of them; each client waits for its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// For how many times as long as a stream took to open its turn is kept from the next, while others wait: this time
/// is left to calls. At most this long each.
const PAUSE_FACTOR: u32 = 2;
const LONGEST_PAUSE: Duration = Duration::from_millis(4);

/// The streams that are being opened, and those that wait for it.
#[derive(Debug)]
pub(crate) struct Admission {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// The right to open a stream now; the next has it soon after this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    began: Instant,
    waiting: Arc<AtomicUsize>,
}

/// Counts one that waits, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// Opens so many at once.
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(at_once)),
            waiting: Arc::default(),
        }
    }

    /// Waits behind all who came before.
    pub(crate) async fn turn(&self) -> Turn {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        // It is never closed; if it were, nobody would have to wait.
        let permit = Arc::clone(&self.turns).acquire_owned().await.ok();
        drop(waiting);
        Turn {
            permit,
            began: Instant::now(),
            waiting: Arc::clone(&self.waiting),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let permit = self.permit.take();
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let pause = (self.began.elapsed() * PAUSE_FACTOR).min(LONGEST_PAUSE);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                sleep(pause).await;
                drop(permit);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const AT_ONCE: usize = 2;
    const A_WHILE: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_few_come() {
        let admission = Admission::new(AT_ONCE);
        for _ in 0..10 {
            let turn = admission.turn().now_or_never().expect("a turn");
            sleep(A_WHILE).await;
            drop(turn);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_come_at_once_have_their_turn_in_order_and_leave_time_to_calls() {
        let admission = Arc::new(Admission::new(AT_ONCE));
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let began = Instant::now();
        let clients = (0..10).map(|number| {
            let (admission, order) = (Arc::clone(&admission), Arc::clone(&order));
            tokio::spawn(async move {
                let _turn = admission.turn().await;
                order.lock().push(number);
                sleep(A_WHILE).await;
            })
        });
        futures_util::future::join_all(clients.collect::<Vec<_>>()).await;
        assert_eq!(*order.lock(), (0..10).collect::<Vec<_>>());
        assert!(began.elapsed() >= 10 / AT_ONCE as u32 * A_WHILE * PAUSE_FACTOR);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_gives_up_keeps_nobody_waiting() {
        let admission = Admission::new(1);
        let turn = admission.turn().await;
        assert!(admission.turn().now_or_never().is_none());
        drop(turn);
        assert!(admission.turn().now_or_never().is_some());
    }
}
