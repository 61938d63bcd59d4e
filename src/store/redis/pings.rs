//! Pings that are asked for at the same time travel together: one write, one read.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use redis::{Pipeline, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::link::Link;
use crate::store::StoreError;
use crate::store::gate::CALL_TIMEOUT;

/// Gathers the pings that wait to be sent.
#[derive(Debug)]
pub(super) struct Pings {
    link: Arc<Link>,
    ttl_ms: u64,
    waiting: Mutex<Vec<Ping>>,
}

#[derive(Debug)]
struct Ping {
    key: String,
    answer: oneshot::Sender<Result<Value, StoreError>>,
}

impl Pings {
    /// Pings over `link` that make keys live for `ttl_ms`.
    pub(super) fn new(link: Arc<Link>, ttl_ms: u64) -> Self {
        Self {
            link,
            ttl_ms,
            waiting: Mutex::default(),
        }
    }

    /// Makes `key` live for another TTL, if it is there, and returns what it holds.
    pub(super) async fn extend(self: &Arc<Self>, key: String) -> Result<Value, StoreError> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock();
            waiting.push(Ping { key, answer });
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
        let mut commands = Pipeline::with_capacity(pings.len());
        for ping in &pings {
            let getex = commands.cmd("GETEX").arg(&ping.key);
            getex.arg("PX").arg(self.ttl_ms);
        }
        let answered = timeout(CALL_TIMEOUT, self.link.each_again(&commands)).await;
        match answered.unwrap_or_else(|_| Err(StoreError::too_slow())) {
            Ok(answers) => {
                for (ping, answer) in pings.into_iter().zip(answers) {
                    // Whoever does not wait any more has hung up.
                    let _ = ping.answer.send(answer);
                }
            }
            Err(error) => {
                for ping in pings {
                    let _ = ping.answer.send(Err(error.clone()));
                }
            }
        }
    }
}
