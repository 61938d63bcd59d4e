//! The connection that commands share: made again for ever, and never waited for long.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError,
    ScriptInvocation, ServerErrorKind, Value,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

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
    origin: Origin,
    state: watch::Sender<State>,
}

/// Where a link finds its server.
#[derive(Debug)]
enum Origin {
    /// Anew for every connection.
    Route(Box<Route>),
    /// Where this link found it. Only that one looks at what the server says of itself, and tells the log.
    Beside(Arc<Link>),
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
        Self::from(Origin::Route(Box::new(route)))
    }

    /// Prepares another link to the server of `first`, wherever that moves on to.
    pub(super) fn beside(first: Arc<Self>) -> Self {
        Self::from(Origin::Beside(first))
    }

    fn from(origin: Origin) -> Self {
        let down = State::Down {
            since: Instant::now(),
            why: "not connected yet".to_owned(),
        };
        Self {
            origin,
            state: watch::Sender::new(down),
        }
    }

    /// The database number the link selects.
    pub(super) fn database(&self) -> i64 {
        match &self.origin {
            Origin::Route(route) => route.database(),
            Origin::Beside(first) => first.database(),
        }
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
        let (client, moved) = self.server()?;
        let connected = client.get_async_pubsub().await.map_err(store_error)?;
        Ok((connected, moved))
    }

    /// The way to the very server it is connected to.
    fn server(&self) -> Result<(Client, Moved), StoreError> {
        let state = self.state.subscribe();
        let (generation, client) = match &*state.borrow() {
            State::Up {
                generation, client, ..
            } => (*generation, Client::clone(client)),
            State::Down { why, .. } => return Err(StoreError::Unreachable(why.clone())),
        };
        Ok((client, Moved { generation, state }))
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
        match &self.origin {
            Origin::Route(route) => self.lead(route).await,
            Origin::Beside(first) => self.follow(first).await,
        }
    }

    async fn lead(&self, route: &Route) {
        let mut backoff = Backoff::default();
        let mut greeted = Greeting::default();
        for generation in 0.. {
            match in_time(greeted_by(route)).await {
                Ok((client, connection, greeting)) => {
                    greeting.log(&greeted);
                    greeted = greeting;
                    self.stands(generation, client, connection);
                    backoff = Backoff::default();
                    let why = self.broken().await;
                    warn!(%why, "redis lost");
                }
                Err(error) => {
                    let why = error.to_string();
                    if self.explain(&why) {
                        warn!(why, "redis out of reach");
                    }
                }
            }
            sleep(backoff.next()).await;
        }
    }

    /// Connects where `first` is connected, and anew once that has moved on: a server that was demoted may
    /// keep its connections, and one that carries no calls would not notice.
    async fn follow(&self, first: &Self) {
        let mut backoff = Backoff::default();
        for generation in 0.. {
            first.up().await;
            let connecting = async {
                let (client, moved) = first.server()?;
                let connection = connection_by(&client).await?;
                Ok((client, connection, moved))
            };
            match in_time(connecting).await {
                Ok((client, connection, mut moved)) => {
                    self.stands(generation, client, connection);
                    backoff = Backoff::default();
                    tokio::select! {
                        why = self.broken() => debug!(%why, "a connection to redis lost"),
                        () = moved.wait() => continue,
                    }
                }
                Err(error) => {
                    self.explain(&error.to_string());
                }
            }
            sleep(backoff.next()).await;
        }
    }

    fn stands(&self, generation: u64, client: Client, connection: MultiplexedConnection) {
        self.state.send_replace(State::Up {
            generation,
            connection,
            client: Box::new(client),
        });
    }

    /// Resolves, with the reason, once it does not stand.
    async fn broken(&self) -> String {
        let mut state = self.state.subscribe();
        // The sender is a field of self, so the wait ends with a state and never with an error.
        match state
            .wait_for(|state| matches!(state, State::Down { .. }))
            .await
            .as_deref()
        {
            Ok(State::Down { why, .. }) => why.clone(),
            _ => String::new(),
        }
    }

    /// Whether that is another reason for being down than the last.
    fn explain(&self, cause: &str) -> bool {
        self.state.send_if_modified(|state| match state {
            State::Down { why, .. } if why != cause => {
                *why = cause.to_owned();
                true
            }
            _ => false,
        })
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

/// Fails where `connecting` takes longer than [`CONNECT_TIMEOUT`].
async fn in_time<T>(
    connecting: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let too_slow = |_| {
        Err(StoreError::Unreachable(
            "connecting took too long".to_owned(),
        ))
    };
    timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(too_slow)
}

/// A connection to a server that can do what we need.
async fn greeted_by(
    route: &Route,
) -> Result<(Client, MultiplexedConnection, Greeting), StoreError> {
    let client = route.client().await?;
    let mut connection = connection_by(&client).await?;
    let greeting = Greeting::of(&mut connection).await?;
    greeting.check()?;
    // A server that does not let us load scripts may still let us run them; calls will tell.
    let _ = Scripts::loading().exec_async(&mut connection).await;
    Ok((client, connection, greeting))
}

async fn connection_by(client: &Client) -> Result<MultiplexedConnection, StoreError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_pipeline_buffer_size(PIPELINE_BUFFER);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    connecting.await.map_err(store_error)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Says that all is well to every command; each begins with a line of its own.
    async fn agree(mut client: TcpStream) {
        let (reader, mut writer) = client.split();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with('*') {
                writer.write_all(b"+OK\r\n").await.expect("it listens");
            }
        }
    }

    async fn link() -> Arc<Link> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(agree(client));
            }
        });
        let url = format!("redis://{address}").parse().expect("an address");
        Arc::new(Link::new(Route::new(&url, None).expect("a route")))
    }

    fn supervise(link: &Arc<Link>) {
        let link = Arc::clone(link);
        tokio::spawn(async move { link.supervise().await });
    }

    /// Waits until it stands on connection `number`.
    async fn stands_on(link: &Link, number: u64) {
        let mut state = link.state.subscribe();
        let stands =
            |state: &State| matches!(state, State::Up { generation, .. } if *generation == number);
        let waited = timeout(CONNECT_TIMEOUT, state.wait_for(stands)).await;
        waited.expect("in time").expect("it is there");
    }

    fn break_off(link: &Link, number: u64) {
        link.failed(number, std::io::Error::other("by the test").into());
    }

    #[tokio::test]
    async fn a_link_beside_another_moves_on_with_it_and_is_mended_without_it() {
        let first = link().await;
        let beside = Arc::new(Link::beside(Arc::clone(&first)));
        supervise(&beside);
        supervise(&first);
        stands_on(&beside, 0).await;
        break_off(&beside, 0);
        stands_on(&beside, 1).await;
        stands_on(&first, 0).await;
        break_off(&first, 0);
        stands_on(&first, 1).await;
        stands_on(&beside, 2).await;
    }
}
