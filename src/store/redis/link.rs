//! The connection that commands share: made again for ever, and never waited for long.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo, RedisError, ScriptInvocation, ServerErrorKind,
};
use socket2::TcpKeepalive;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use crate::store::{Backoff, StoreError};

/// How long a command may take. With [`PATIENCE`] it keeps a call under the 2 s after which our
/// clients are promised an answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1_200);

/// How long a connection may take to be made, name look-up and handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a call waits for a connection that broke only now.
const PATIENCE: Duration = Duration::from_millis(600);

/// Commands that may wait to be written. The crate's default of 50 makes callers wait for the
/// writer task under load, as its documentation of `set_pipeline_buffer_size` says.
const PIPELINE_BUFFER: usize = 4_096;

/// The link to one Redis.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    state: watch::Sender<State>,
}

#[derive(Clone)]
enum State {
    Up {
        generation: u64,
        connection: MultiplexedConnection,
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

impl Link {
    /// Prepares a link; [`Link::supervise`] makes the connection.
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        let client = url
            .into_connection_info()
            .map(tuned)
            .and_then(Client::open)
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let down = State::Down {
            since: Instant::now(),
            why: "not connected yet".to_owned(),
        };
        Ok(Self {
            client,
            state: watch::Sender::new(down),
        })
    }

    /// The database number the link selects.
    pub(super) fn database(&self) -> i64 {
        self.client.get_connection_info().redis_settings().db()
    }

    /// A connection of its own that only subscribes.
    pub(super) async fn pubsub(&self) -> Result<redis::aio::PubSub, StoreError> {
        match timeout(CONNECT_TIMEOUT, self.client.get_async_pubsub()).await {
            Ok(connected) => connected.map_err(store_error),
            Err(_) => Err(StoreError::Unreachable("connecting took too long".into())),
        }
    }

    /// Runs one command.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let (generation, mut connection) = self.connection().await?;
        let answer = command.query_async(&mut connection).await;
        answer.map_err(|error| self.failed(generation, error))
    }

    /// Runs one command that may run twice: when the connection breaks under it, on the next one.
    pub(super) async fn query_again<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let (generation, mut connection) = self.connection().await?;
        match command.query_async(&mut connection).await {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_connection_dropped() => {
                self.failed(generation, error);
                self.query(command).await
            }
            Err(error) => Err(self.failed(generation, error)),
        }
    }

    /// Runs a script, by its digest where Redis still knows it.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let (generation, mut connection) = self.connection().await?;
        let answer = invocation.invoke_async(&mut connection).await;
        answer.map_err(|error| self.failed(generation, error))
    }

    /// Connects, and again whenever the connection breaks, for as long as it is polled.
    pub(super) async fn supervise(&self) {
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        config = config.set_pipeline_buffer_size(PIPELINE_BUFFER);
        let mut backoff = Backoff::default();
        for generation in 0.. {
            let connecting = self
                .client
                .get_multiplexed_async_connection_with_config(&config);
            match timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => {
                    info!("redis reached");
                    self.state.send_replace(State::Up {
                        generation,
                        connection,
                    });
                    backoff = Backoff::default();
                    self.broken().await;
                }
                Ok(Err(error)) => self.explain(&error.to_string()),
                Err(_) => self.explain("connecting took too long"),
            }
            sleep(backoff.next()).await;
        }
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

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), StoreError> {
        let deadline = match &*self.state.borrow() {
            State::Up {
                generation,
                connection,
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
            } => Ok((*generation, connection.clone())),
            State::Down { why, .. } => Err(StoreError::Unreachable(why.clone())),
        }
    }

    fn failed(&self, generation: u64, error: RedisError) -> StoreError {
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

/// Nagle's algorithm is on by default in this crate and costs a multiplexed connection half its
/// throughput (redis-rs #2195); keep-alive and user time-out are off, which leaves a connection to
/// a vanished server open for ever (redis-rs #404, #2277).
fn tuned(info: ConnectionInfo) -> ConnectionInfo {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2));
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(10));
    info.set_tcp_settings(settings)
}

/// Whether another connection is needed: this one is gone, mute, or leads to a demoted primary.
fn breaks_the_connection(error: &RedisError) -> bool {
    error.is_connection_dropped()
        || error.is_io_error()
        || error.is_timeout()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}

/// A refusal that no retry mends is our fault or the operator's; all else passes.
pub(super) fn store_error(error: RedisError) -> StoreError {
    let ours = match error.kind() {
        ErrorKind::Server(ServerErrorKind::ResponseError) => true,
        ErrorKind::UnexpectedReturnType | ErrorKind::Client => true,
        ErrorKind::Extension => error.code() == Some("WRONGTYPE"),
        _ => false,
    };
    if ours {
        StoreError::Failed(error.to_string())
    } else {
        StoreError::Unreachable(error.to_string())
    }
}
