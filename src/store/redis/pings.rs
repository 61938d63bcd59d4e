//! Pings that are asked for at the same time travel together: one write, one read.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::keys::Keys;
use super::link::Link;
use crate::presence::{UserId, millis};
use crate::store::StoreError;
use crate::store::gate::{CALL_TIMEOUT, Gate};

/// Of `GETEX key PX ttl`.
const ARGUMENTS: usize = 4;

/// Room for all of them with an id of the usual length; a longer one makes it grow.
const COMMAND_BYTES: usize = 96;

/// How often others have their turn to join a ping that waits; without a bound it might never leave.
const MOST_TURNS: usize = 8;

/// Gathers the pings that wait to be sent.
#[derive(Debug)]
pub(super) struct Pings {
    link: Arc<Link>,
    gate: Arc<Gate>,
    keys: Keys,
    /// In milliseconds, as Redis reads it.
    ttl: String,
    waiting: Mutex<Vec<Ping>>,
}

#[derive(Debug)]
struct Ping {
    command: Cmd,
    answer: oneshot::Sender<Result<Value, StoreError>>,
}

impl Pings {
    /// Pings over `link` that make the keys of users live for `ttl`.
    pub(super) fn new(link: &Arc<Link>, gate: &Arc<Gate>, keys: &Keys, ttl: Duration) -> Self {
        Self {
            link: Arc::clone(link),
            gate: Arc::clone(gate),
            keys: keys.clone(),
            ttl: millis(ttl).to_string(),
            waiting: Mutex::default(),
        }
    }

    /// Makes the key of `user` live for another TTL, if it is there, and returns what it holds.
    ///
    /// It ends in time or is refused at once, as the calls that pass the gate.
    pub(super) async fn extend(self: &Arc<Self>, user: &UserId) -> Result<Value, StoreError> {
        let mut command = Cmd::with_capacity(ARGUMENTS, COMMAND_BYTES);
        command.arg("GETEX");
        self.keys.add_user(&mut command, user);
        command.arg("PX").arg(&self.ttl);
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock();
            self.gate.admit_beside(waiting.len())?;
            waiting.push(Ping { command, answer });
            waiting.len() == 1
        };
        if is_first {
            // A task of its own, since the client of the first may hang up before the others'.
            tokio::spawn(Arc::clone(self).send());
        }
        let gone = |_| StoreError::Unreachable("the ping was not sent".to_owned());
        answered.await.map_err(gone)?
    }

    /// Lets all requests that have arrived by now have their turn to join, and again until that brings nobody more.
    async fn gather(&self) {
        let mut joined = 0;
        for _ in 0..MOST_TURNS {
            yield_now().await;
            let before = mem::replace(&mut joined, self.waiting.lock().len());
            if joined == before {
                return;
            }
        }
    }

    /// Sends everyone who waits.
    async fn send(self: Arc<Self>) {
        self.gather().await;
        let (pings, places) = {
            let mut waiting = self.waiting.lock();
            // Counted before another may join, so that everyone who waits is seen by whoever comes.
            let places = self.gate.take(waiting.len());
            (mem::take(&mut *waiting), places)
        };
        let mut commands = Pipeline::with_capacity(pings.len());
        let mut answers = Vec::with_capacity(pings.len());
        for ping in pings {
            commands.add_command(ping.command);
            answers.push(ping.answer);
        }
        let answered = timeout(CALL_TIMEOUT, self.link.each_again(&commands)).await;
        match answered.unwrap_or_else(|_| Err(StoreError::too_slow())) {
            Ok(values) => {
                places.answered();
                for (answer, value) in answers.into_iter().zip(values) {
                    // Whoever does not wait any more has hung up.
                    let _ = answer.send(value);
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::store::gate::MOST_WAITING;
    use crate::store::redis::route::Route;

    /// The link to a server that nobody ever connected.
    fn link() -> Arc<Link> {
        let url = "redis://127.0.0.1:1".parse().expect("an address");
        Arc::new(Link::new(Route::new(&url, None).expect("a route")))
    }

    #[tokio::test]
    async fn a_ping_leaves_although_others_join_at_every_turn() {
        let keys = Keys::new("presence:");
        let pings = Pings::new(&link(), &Arc::default(), &keys, Duration::from_secs(60));
        let joining = async {
            loop {
                let (command, (answer, _)) = (Cmd::new(), oneshot::channel());
                pings.waiting.lock().push(Ping { command, answer });
                yield_now().await;
            }
        };
        tokio::select! {
            () = joining => {}
            () = pings.gather() => {}
            () = tokio::time::sleep(Duration::from_secs(5)) => panic!("it still waits"),
        }
    }

    // Time stands still until all have come, however long that takes: in a silence fewer are let in.
    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_pings_is_bounded_even_if_it_comes_at_once() {
        let gate = Arc::new(Gate::default());
        let keys = Keys::new("presence:");
        let pings = Pings::new(&link(), &gate, &keys, Duration::from_secs(60));
        let pings = Arc::new(pings);
        let mut calls = JoinSet::new();
        for _ in 0..MOST_WAITING + 100 {
            let pings = Arc::clone(&pings);
            calls.spawn(async move {
                let user = UserId::new("alice").expect("an id");
                pings.extend(&user).await
            });
        }
        let answers = calls.join_all().await;
        let refused = |answer: &Result<_, _>| matches!(answer, Err(StoreError::Overloaded));
        let refused = answers.iter().filter(|answer| refused(answer)).count();
        assert_eq!(refused, 100);
        assert!(answers.iter().all(Result::is_err), "there is no server");
    }
}
