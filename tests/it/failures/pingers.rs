//! Clients that ping all the time and count the answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::client::{Answer, Client, try_send};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// The limit within which each call is answered, or refused with `Retry-After`.
pub(crate) const PROMISE: Duration = Duration::from_secs(2);

/// The time between two pings of a user.
const PACE: Duration = Duration::from_millis(200);

/// One task for each user.
pub(crate) struct Pingers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
}

/// The number of answers of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: usize,
    pub(crate) refused: usize,
}

impl Pingers {
    /// Starts to ping `users`, at `clients` in turn.
    pub(crate) fn start(users: &[String], clients: &[Client]) -> Self {
        let mut pingers = Self {
            stop: Arc::default(),
            tasks: JoinSet::new(),
            tally: Arc::default(),
        };
        for (number, user) in users.iter().enumerate() {
            let (user, clients) = (user.clone(), clients.to_vec());
            let (stop, tally) = (Arc::clone(&pingers.stop), Arc::clone(&pingers.tally));
            pingers.tasks.spawn(async move {
                let mut pace = interval(PACE);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                for turn in number.. {
                    pace.tick().await;
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let client = &clients[turn % clients.len()];
                    let answered = answered_or_refused(client.of_user(&user, "ping")).await;
                    let mut tally = tally.lock().expect("no pinger panicked");
                    match answered {
                        Some(_) => tally.answered += 1,
                        None => tally.refused += 1,
                    }
                }
            });
        }
        pingers
    }

    /// Waits for the last call of each task. Panics if a ping was not answered or refused within the limit.
    pub(crate) async fn stop(&mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("every ping was answered as promised");
        }
        *self.tally.lock().expect("no pinger panicked")
    }
}

/// Sends a call and checks the answer: a 200, or a 503 with `Retry-After`, within the limit.
pub(crate) async fn answered_or_refused(request: reqwest::RequestBuilder) -> Option<Answer> {
    let asked = Instant::now();
    let answer = try_send(request).await;
    let took = asked.elapsed();
    let answer = answer.expect("an answer, not a broken connection");
    assert!(took < PROMISE, "{took:?} for {answer:?}");
    if answer.status == 200 {
        return Some(answer);
    }
    assert_refused(&answer);
    None
}

/// Checks that a refusal has `Retry-After` and reveals nothing of the store.
pub(crate) fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    let retry_after = answer.header("retry-after").parse::<u64>();
    assert!(retry_after.is_ok(), "seconds in Retry-After: {answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    for internal in [
        "127.0.0.1",
        "edis",
        "os error",
        "OOM",
        "READONLY",
        "NOAUTH",
        "BUSY",
    ] {
        assert!(
            !answer.body.contains(internal),
            "{internal} in {}",
            answer.body
        );
    }
}
