//! A connection to Redis that a worker, or the calls about many users, have of their own beside the main one.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::connecting::{connected_by, in_time};
use super::errors::{breaks_the_connection, store_error};
use super::main_connection::{MainConnection, Moved};
use crate::store::{Backoff, StoreError};

/// How often it is used at least: servers may close one that is idle (Redis's `timeout`), and the next call
/// would fail.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// A connection that carries calls while it stands and the main connection is still the one it was made
/// beside. At all other times they go by that: were they answered by a server that nobody sweeps, or
/// refused where sweeps go on, users who ping would be announced gone.
#[derive(Debug)]
pub(in crate::store::redis) struct OwnConnection {
    standing: watch::Sender<Option<Standing>>,
}

#[derive(Clone)]
struct Standing {
    number: u64,
    beside: u64,
    connection: MultiplexedConnection,
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Standing").field(&self.number).finish()
    }
}

impl OwnConnection {
    /// Prepares it; [`OwnConnection::supervise`] makes the connection.
    pub(in crate::store::redis) fn new() -> Self {
        Self {
            standing: watch::Sender::new(None),
        }
    }

    /// The connection and its number, where it was made beside `generation` of the main connection.
    pub(in crate::store::redis) fn beside(
        &self,
        generation: u64,
    ) -> Option<(u64, MultiplexedConnection)> {
        let standing = self.standing.borrow();
        let standing = standing.as_ref()?;
        (standing.beside == generation).then(|| (standing.number, standing.connection.clone()))
    }

    /// Connects where `main` is connected, and again whenever the connection breaks or that has moved on,
    /// for as long as it is polled.
    pub(in crate::store::redis) async fn supervise(&self, main: &MainConnection) {
        let mut backoff = Backoff::default();
        let mut told = false;
        for number in 0.. {
            main.up().await;
            match in_time(connect(main)).await {
                Ok((connection, mut moved)) => {
                    backoff = Backoff::default();
                    told = false;
                    let standing = Standing {
                        number,
                        beside: moved.generation(),
                        connection: connection.clone(),
                    };
                    self.standing.send_replace(Some(standing));
                    tokio::select! {
                        () = self.broken() => debug!("a connection to redis beside the main one broke"),
                        () = moved.wait() => {}
                        error = probed(connection) => {
                            self.failed(number, error);
                        }
                    }
                }
                // The same trouble comes in other words each time.
                Err(error) if !told => {
                    told = true;
                    warn!(%error, "no connection to redis beside the main one");
                }
                Err(_) => {}
            }
            sleep(backoff.next()).await;
        }
    }

    async fn broken(&self) {
        let mut standing = self.standing.subscribe();
        // The sender is a field of self, so the wait ends with a state and never with an error.
        let _ = standing.wait_for(Option::is_none).await;
    }

    /// What became of a command by connection `number`.
    pub(in crate::store::redis) fn failed(&self, number: u64, error: RedisError) -> StoreError {
        if breaks_the_connection(&error) {
            self.standing.send_if_modified(|standing| {
                let is_own = |standing: &mut Standing| standing.number == number;
                standing.take_if(is_own).is_some()
            });
        }
        store_error(error)
    }
}

async fn connect(main: &MainConnection) -> Result<(MultiplexedConnection, Moved), StoreError> {
    let (server, moved) = main.server()?;
    let (connection, _) = connected_by(&server).await?;
    Ok((connection, moved))
}

/// Uses the connection now and then; resolves when it turns out to be broken.
async fn probed(mut connection: MultiplexedConnection) -> RedisError {
    loop {
        sleep(PROBE_INTERVAL).await;
        let answer = redis::cmd("PING")
            .query_async::<Value>(&mut connection)
            .await;
        match answer {
            Err(error) if breaks_the_connection(&error) => return error,
            // To be refused is to be in use.
            _ => {}
        }
    }
}
