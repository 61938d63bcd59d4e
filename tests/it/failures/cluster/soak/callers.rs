//! Callers that ping all the time and record each refusal.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::client::{Client, send};
use harness::timestamp::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::failures::pingers::assert_refused;

/// The time between two pings of a user.
const PACE: Duration = Duration::from_millis(150);

/// A ping that was refused.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) user: String,
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    /// The wall-clock time of the answer, as in the logs.
    pub(super) at: Timestamp,
}

pub(super) struct Callers {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    refusals: Arc<Mutex<Vec<Refusal>>>,
    tasks: JoinSet<()>,
}

impl Callers {
    /// Starts to ping `users`, at `clients` in turn.
    pub(super) fn start(users: &[String], clients: &[Client]) -> Self {
        let mut callers = Self {
            stop: Arc::default(),
            calls: Arc::default(),
            refusals: Arc::default(),
            tasks: JoinSet::new(),
        };
        for (number, user) in users.iter().enumerate() {
            let (user, clients) = (user.clone(), clients.to_vec());
            let (stop, calls) = (Arc::clone(&callers.stop), Arc::clone(&callers.calls));
            let refusals = Arc::clone(&callers.refusals);
            callers.tasks.spawn(async move {
                for turn in number.. {
                    sleep(PACE).await;
                    if stop.load(Relaxed) {
                        return;
                    }
                    let asked = Instant::now();
                    let ping = clients[turn % clients.len()].of_user(&user, "ping");
                    let answer = send(ping).await;
                    calls.fetch_add(1, Relaxed);
                    if answer.status != 200 {
                        assert_refused(&answer);
                        let refusal = Refusal {
                            user: user.clone(),
                            asked,
                            answered: Instant::now(),
                            at: Timestamp::now(),
                        };
                        refusals.lock().expect("no caller panicked").push(refusal);
                    }
                }
            });
        }
        callers
    }

    /// The number of pings, and the refused ones.
    pub(super) async fn stop(mut self) -> (usize, Vec<Refusal>) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("every ping was answered or refused");
        }
        let refusals = self.refusals.lock().expect("no caller panicked").clone();
        (self.calls.load(Relaxed), refusals)
    }
}
