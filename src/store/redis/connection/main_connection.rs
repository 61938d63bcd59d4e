//! The connection of a process to Redis: made again for ever, and never waited for long.

use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::connecting::{connected_by, in_time};
use super::endpoint::Endpoint;
use super::errors::{breaks_the_connection, store_error};
use super::server::Server;
use super::server_info::ServerInfo;
use crate::store::redis::scripts::Scripts;
use crate::store::{Backoff, StoreError};

/// How long a call waits for a connection that broke only now.
pub(in crate::store::redis) const PATIENCE: Duration = Duration::from_millis(400);

/// The connection that finds the server, and that all others are made beside.
#[derive(Debug)]
pub(in crate::store::redis) struct MainConnection {
    endpoint: Endpoint,
    state: watch::Sender<State>,
}

/// Tells when the main connection has moved on to another connection, and maybe to another server.
#[derive(Clone, Debug)]
pub(in crate::store::redis) struct Moved {
    generation: u64,
    state: watch::Receiver<State>,
}

impl Moved {
    /// Which connection it moves on from.
    pub(in crate::store::redis) fn generation(&self) -> u64 {
        self.generation
    }

    /// Resolves once it has.
    pub(in crate::store::redis) async fn wait(&mut self) {
        let own = self.generation;
        let moved =
            |state: &State| matches!(state, State::Up { generation, .. } if *generation != own);
        // An error means that it is gone, and then nobody is left to be told.
        let _ = self.state.wait_for(moved).await;
    }
}

#[derive(Clone)]
enum State {
    Up {
        generation: u64,
        connection: MultiplexedConnection,
        /// The server that `connection` is to, which said that it is the primary.
        server: Server,
    },
    Down {
        since: Instant,
        why: String,
    },
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Up { .. } => "Up",
            Self::Down { .. } => "Down",
        })
    }
}

impl MainConnection {
    /// Prepares it; [`MainConnection::supervise`] makes the connection.
    pub(in crate::store::redis) fn new(endpoint: Endpoint) -> Self {
        let down = State::Down {
            since: Instant::now(),
            why: "not connected yet".to_owned(),
        };
        Self {
            endpoint,
            state: watch::Sender::new(down),
        }
    }

    /// The database number that connections select.
    pub(in crate::store::redis) fn database(&self) -> i64 {
        self.endpoint.database()
    }

    /// Waits, for as long as it takes, until it stands.
    pub(in crate::store::redis) async fn up(&self) {
        let mut state = self.state.subscribe();
        // The sender is a field of self, so the wait ends with a state and never with an error.
        let _ = state
            .wait_for(|state| matches!(state, State::Up { .. }))
            .await;
    }

    /// Which of its connections it stands on, if it does.
    pub(in crate::store::redis) fn generation(&self) -> Option<u64> {
        match &*self.state.borrow() {
            State::Up { generation, .. } => Some(*generation),
            State::Down { .. } => None,
        }
    }

    /// The server it is connected to, which is of use until it has moved on.
    pub(in crate::store::redis) fn server(&self) -> Result<(Server, Moved), StoreError> {
        let state = self.state.subscribe();
        let (generation, server) = match &*state.borrow() {
            State::Up {
                generation, server, ..
            } => (*generation, server.clone()),
            State::Down { why, .. } => return Err(StoreError::Unreachable(why.clone())),
        };
        Ok((server, Moved { generation, state }))
    }

    /// Connects, and again whenever the connection breaks, for as long as it is polled.
    pub(in crate::store::redis) async fn supervise(&self) {
        let mut backoff = Backoff::default();
        let mut greeted = ServerInfo::default();
        for generation in 0.. {
            match in_time(self.connect()).await {
                Ok((server, connection, server_info)) => {
                    server_info.log(&greeted);
                    greeted = server_info;
                    self.state.send_replace(State::Up {
                        generation,
                        connection,
                        server,
                    });
                    backoff = Backoff::default();
                    self.broken().await;
                }
                Err(error) => self.explain(&error.to_string()),
            }
            sleep(backoff.next()).await;
        }
    }

    async fn connect(&self) -> Result<(Server, MultiplexedConnection, ServerInfo), StoreError> {
        let server = self.endpoint.primary().await?;
        let (mut connection, server_info) = connected_by(&server).await?;
        // A server that does not let us load scripts may still let us run them; calls will tell.
        let _ = Scripts::loading().exec_async(&mut connection).await;
        Ok((server, connection, server_info))
    }

    async fn broken(&self) {
        let mut state = self.state.subscribe();
        // The sender is a field of self, so the wait ends with a state and never with an error.
        if let Ok(state) = state
            .wait_for(|state| matches!(state, State::Down { .. }))
            .await
            && let State::Down { why, .. } = &*state
        {
            warn!(%why, "redis lost");
        }
    }

    fn explain(&self, cause: &str) {
        self.state.send_if_modified(|state| match state {
            State::Down { why, .. } if why != cause => {
                warn!(why = cause, "redis out of reach");
                *why = cause.to_owned();
                true
            }
            _ => false,
        });
    }

    /// The connection and its generation; fails where it was not there for a moment.
    pub(in crate::store::redis) async fn connection(
        &self,
    ) -> Result<(u64, MultiplexedConnection), StoreError> {
        let deadline = match &*self.state.borrow() {
            State::Up {
                generation,
                connection,
                ..
            } => return Ok((*generation, connection.clone())),
            State::Down { since, .. } => *since + PATIENCE,
        };
        let mut state = self.state.subscribe();
        let up = state.wait_for(|state| matches!(state, State::Up { .. }));
        let _ = timeout_at(deadline, up).await;
        match &*self.state.borrow() {
            State::Up {
                generation,
                connection,
                ..
            } => Ok((*generation, connection.clone())),
            State::Down { why, .. } => Err(StoreError::Unreachable(why.clone())),
        }
    }

    /// What became of a command by the connection of `generation`.
    pub(in crate::store::redis) fn failed(&self, generation: u64, error: RedisError) -> StoreError {
        if breaks_the_connection(&error) {
            let why = error.to_string();
            self.state.send_if_modified(|state| match state {
                State::Up { generation: up, .. } if *up == generation => {
                    let since = Instant::now();
                    *state = State::Down { since, why };
                    true
                }
                _ => false,
            });
        }
        store_error(error)
    }
}
