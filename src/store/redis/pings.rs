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
    pub(super) fn new(link: Arc<Link>, gate: Arc<Gate>, keys: Keys, ttl: Duration) -> Self {
        Self {
            link,
            gate,
            keys,
            ttl: millis(ttl).to_string(),
            waiting: Mutex::default(),
        }
    }

    /// Makes the key of `user` live for another TTL, if it is there, and returns what it holds.
    ///
    /// It ends in time or is refused at once, as the calls that pass the gate.
    pub(super) async fn extend(self: &Arc<Self>, user: &UserId) -> Result<Value, StoreError> {
        self.gate.admit()?;
        let mut command = Cmd::with_capacity(ARGUMENTS, COMMAND_BYTES);
        command.arg("GETEX");
        self.keys.add_user(&mut command, user);
        command.arg("PX").arg(&self.ttl);
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock();
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

    /// Sends everyone who waits, after all requests that have arrived by now had their turn to join.
    async fn send(self: Arc<Self>) {
        yield_now().await;
        let pings = mem::take(&mut *self.waiting.lock());
        let places = self.gate.take(pings.len());
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
