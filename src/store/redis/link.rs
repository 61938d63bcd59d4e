//! The connection that commands share: made again for ever, and never waited for long.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError,
    ScriptInvocation, ServerErrorKind, Value,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::warn;

use super::greeting::Greeting;
use super::route::Route;
use super::scripts::Scripts;
use crate::store::{Backoff, StoreError};

/// How long a command may take. With [`PATIENCE`] it keeps a call under the 2 s after which our
/// clients are promised an answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1_200);

/// How long a connection may take to be made, from the look-up of the server to the last of the
/// three round trips before it serves.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a call waits for a connection that broke only now.
const PATIENCE: Duration = Duration::from_millis(400);

/// Commands that may wait to be written. The crate's default of 50 makes callers wait for the
/// writer task under load, as its documentation of `set_pipeline_buffer_size` says.
const PIPELINE_BUFFER: usize = 4_096;

/// The link to one Redis.
#[derive(Debug)]
pub(super) struct Link {
    route: Route,
    state: watch::Sender<State>,
}

/// Tells when a link has moved on to another connection, and maybe to another server.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    generation: u64,
    state: watch::Receiver<State>,
}

impl Moved {
    /// Resolves once the link has moved on.
    pub(super) async fn wait(&mut self) {
        let own = self.generation;
        let moved =
            |state: &State| matches!(state, State::Up { generation, .. } if *generation != own);
        // An error means that the link is gone, and then nobody is left to be told.
        let _ = self.state.wait_for(moved).await;
    }
}

#[derive(Clone)]
enum State {
    Up {
        generation: u64,
        connection: MultiplexedConnection,
        /// Leads to the server that `connection` is to, which said that it is the primary.
        client: Box<Client>,
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
    pub(super) fn new(route: Route) -> Self {
        let down = State::Down {
            since: Instant::now(),
            why: "not connected yet".to_owned(),
        };
        Self {
            route,
            state: watch::Sender::new(down),
        }
    }

    /// The database number the link selects.
    pub(super) fn database(&self) -> i64 {
        self.route.database()
    }

    /// Waits, for as long as it takes, until the link stands.
    pub(super) async fn up(&self) {
        let mut state = self.state.subscribe();
        // The sender is a field of self, so the wait ends with a state and never with an error.
        let _ = state
            .wait_for(|state| matches!(state, State::Up { .. }))
            .await;
    }

    /// A connection of its own to the same server, which only subscribes. It is of use until the
    /// link has moved on.
    pub(super) async fn pubsub(&self) -> Result<(redis::aio::PubSub, Moved), StoreError> {
        let state = self.state.subscribe();
        let (generation, client) = match &*state.borrow() {
            State::Up {
                generation, client, ..
            } => (*generation, client.clone()),
            State::Down { why, .. } => return Err(StoreError::Unreachable(why.clone())),
        };
        let connected = client.get_async_pubsub().await.map_err(store_error)?;
        Ok((connected, Moved { generation, state }))
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

    /// Runs commands that may run twice, in one round trip, and answers each. The outer error says
    /// that none was answered.
    pub(super) async fn each_again(
        &self,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let (mut generation, mut connection) = self.connection().await?;
        let count = commands.len();
        let answers = match connection.send_packed_commands(commands, 0, count).await {
            Err(error) if error.is_connection_dropped() => {
                self.failed(generation, error);
                (generation, connection) = self.connection().await?;
                connection.send_packed_commands(commands, 0, count).await
            }
            answers => answers,
        };
        let answers = answers.map_err(|error| self.failed(generation, error))?;
        let checked = answers.into_iter().map(|value| {
            let value = value.extract_error();
            value.map_err(|error| self.failed(generation, error))
        });
        Ok(checked.collect())
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
        let mut backoff = Backoff::default();
        let mut greeted = Greeting::default();
        for generation in 0.. {
            match timeout(CONNECT_TIMEOUT, self.connect()).await {
                Ok(Ok((client, connection, greeting))) => {
                    greeting.log(&greeted);
                    greeted = greeting;
                    self.state.send_replace(State::Up {
                        generation,
                        connection,
                        client: Box::new(client),
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

    /// A connection to a server that can do what we need.
    async fn connect(&self) -> Result<(Client, MultiplexedConnection, Greeting), StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        let client = self.route.client().await?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(store_error)?;
        let greeting = Greeting::of(&mut connection).await?;
        greeting.check()?;
        // A server that does not let us load scripts may still let us run them; calls will tell.
        let _ = Scripts::loading().exec_async(&mut connection).await;
        Ok((client, connection, greeting))
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

/// Whether another connection is needed: this one is gone, mute, out of step or not accepted any
/// more, or leads to a demoted primary.
fn breaks_the_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => true,
        _ => error.code() == Some("NOAUTH") || is_protocol_error(error),
    }
}

/// A refusal that no retry mends is our fault or the operator's; all else passes: `OOM`, `BUSY`,
/// `LOADING`, `MISCONF`, `NOREPLICAS` and the like are states of the server.
pub(super) fn store_error(error: RedisError) -> StoreError {
    let ours = match error.kind() {
        ErrorKind::Server(ServerErrorKind::ResponseError) => !is_protocol_error(&error),
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

/// Redis says `ERR Protocol error` and hangs up where it does not like how we talk; also to a
/// caller that has not authenticated and sends more than ten arguments (its networking.c).
fn is_protocol_error(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.starts_with("Protocol error")
}
