//! A supervised connection to a Redis server, whatever its role.

mod checkout;
mod endpoint;
mod errors;
mod messages;
mod pushes;
mod records;
mod rights;
mod sentinels;
mod server;
mod server_info;
mod socket;
mod state;
mod watched_stream;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

pub(super) use self::checkout::Checkout;
pub(super) use self::endpoint::Endpoint;
pub(super) use self::errors::store_error;
pub(super) use self::messages::{Channels, Message, MessageStream, Messages};
use self::rights::check_rights;
pub(super) use self::rights::{asks_for_rights, check_reply};
use self::server::CONNECT_TIMEOUT;
use self::server_info::{ServerInfo, check_commands};
use self::socket::{
    PROBE_INTERVAL, SUBSCRIPTION_PROBE_TIMEOUT, Socket, enable_expired_events, open_commands,
};
use self::state::{State, Up, close};
use super::format::layout::Layout;
use super::logged_causes::LoggedCauses;
use super::scripts::Scripts;
use crate::config::KeyspaceEvents;
use crate::model::{Partition, PartitionSet};
use crate::store::backoff::Backoff;
use crate::store::error::StoreError;

/// How long a call waits for a connection that broke just now.
const TIMEOUT: Duration = Duration::from_millis(400);

/// What a connection is for. Every role but the main one *follows* a main connection: it connects to the same server,
/// and reconnects when the main connection was replaced.
#[derive(Debug)]
pub(super) enum Role {
    /// Looks up the primary, checks the number of partitions for those on the server, loads the scripts, and carries
    /// sweeps. It also carries the calls of a worker whose own connection is down.
    Main(Box<Endpoint>, Arc<Layout>, watch::Receiver<PartitionSet>),
    /// Carries the calls of one worker.
    Worker(Arc<SupervisedConnection>),
    /// Receives the messages of channels.
    Subscription(Arc<SupervisedConnection>, Channels),
}

/// A connection that [`SupervisedConnection::supervise`] opens, and opens again whenever it is lost.
#[derive(Debug)]
pub(super) struct SupervisedConnection {
    role: Role,
    state: watch::Sender<State>,
}

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Self::Main(..) => "main",
            Self::Worker(_) => "worker",
            Self::Subscription(..) => "subscription",
        }
    }

    /// The address of the server if it is a node of a cluster.
    fn node(&self) -> Option<String> {
        match self {
            Self::Main(endpoint, ..) => endpoint.node(),
            Self::Worker(main) | Self::Subscription(main, _) => main.role.node(),
        }
    }

    /// The connection that this one follows.
    fn main(&self) -> Option<&SupervisedConnection> {
        match self {
            Self::Main(..) => None,
            Self::Worker(main) | Self::Subscription(main, _) => Some(main),
        }
    }

    /// Resolves when a subscription has to begin again, because other partitions are on the server now, or because the
    /// server refused a channel.
    async fn channels_changed(&self, socket: &Socket) {
        let (Self::Subscription(_, channels), Socket::Messages(messages)) = (self, socket) else {
            return std::future::pending().await;
        };
        messages.outdated(channels).await;
    }

    /// Resolves when the main connection of `main_generation` was replaced, maybe by one to another server. While the
    /// main connection is only down, its followers stay open.
    async fn main_replaced(&self, main_generation: u64) {
        let Some(main) = self.main() else {
            return std::future::pending().await;
        };
        let is_replaced =
            |state: &State| state.is_up() && state.generation() != Some(main_generation);
        let _ = main.state.subscribe().wait_for(is_replaced).await;
    }
}

impl SupervisedConnection {
    /// A connection that is down until it is supervised.
    pub(super) fn new(role: Role) -> Self {
        let down = State::Down {
            since: Instant::now(),
            why: StoreError::Unreachable("not connected yet".to_owned()),
        };
        Self {
            role,
            state: watch::Sender::new(down),
        }
    }

    /// Opens the connection, and opens it again whenever it is lost, for as long as it is polled.
    pub(super) async fn supervise(&self) {
        let mut backoff = Backoff::default();
        let mut known = ServerInfo::default();
        let mut logged = LoggedCauses::default();
        for generation in 0.. {
            if let Some(main) = self.role.main() {
                main.opened().await;
            }
            let opening = timeout(CONNECT_TIMEOUT, self.open(generation, &mut known));
            let too_slow = |_| Err(StoreError::Unreachable("connecting took too long".into()));
            match opening.await.unwrap_or_else(too_slow) {
                Ok(up) => {
                    self.state.send_replace(State::Up(up.clone()));
                    backoff = Backoff::default();
                    logged.clear();
                    self.lost(up).await;
                }
                Err(error) => self.explain(error, &mut logged),
            }
            // The rest ends early if the connection is needed at once.
            let _ = timeout(backoff.next(), self.state.subscribe().changed()).await;
        }
    }

    /// Opens the connection at once if it is down. Calls wait for it as if it had broken just now.
    pub(super) fn hurry(&self) {
        self.state.send_if_modified(|state| match state {
            State::Down { since, .. } => {
                *since = Instant::now();
                true
            }
            State::Up(_) => false,
        });
    }

    async fn open(&self, generation: u64, known: &mut ServerInfo) -> Result<Up, StoreError> {
        let (server, main_generation) = match &self.role {
            Role::Main(endpoint, ..) => (endpoint.primary().await?, generation),
            Role::Worker(main) | Role::Subscription(main, _) => main.server()?,
        };
        let mut run = None;
        let socket = match &self.role {
            Role::Main(endpoint, layout, served) => {
                let (mut commands, watch, info) = open_commands(&server).await?;
                endpoint.check(&info)?;
                let served = *served.borrow();
                let first = served.iter().next().unwrap_or(Partition::FIRST);
                check_commands(&mut commands, &layout.keys(first).absent).await?;
                check_rights(&mut commands, layout.keys(first)).await?;
                layout.check_records(&mut commands, served).await?;
                // A server that refuses to load scripts may still run them; the calls will show.
                let _ = Scripts::load(&commands).await;
                info.log(known, self.role.node());
                run = info.run_in_cluster();
                *known = info;
                Socket::Commands(commands, watch)
            }
            Role::Worker(_) => {
                let (commands, watch, _) = open_commands(&server).await?;
                Socket::Commands(commands, watch)
            }
            Role::Subscription(main, channels) => {
                let messages = Messages::subscribe(&server, channels).await?;
                if channels.keyspace_events == KeyspaceEvents::Configure
                    && let Some(checkout) = main.checkout()
                    && let Err(error) = enable_expired_events(checkout.socket).await
                {
                    debug!(%error, "cannot configure notify-keyspace-events");
                }
                Socket::Messages(messages)
            }
        };
        Ok(Up {
            generation,
            main_generation,
            server,
            run,
            socket,
        })
    }

    /// Resolves when the connection has to be replaced, and closes it.
    async fn lost(&self, up: Up) {
        tokio::select! {
            () = self.closed(up.generation) => {}
            () = self.role.main_replaced(up.main_generation) => {
                self.close(up.generation, "the main connection was replaced".to_owned());
            }
            () = self.role.channels_changed(&up.socket) => {
                self.close(up.generation, "other channels are needed".to_owned());
            }
            why = self.failed_probe(&up) => self.close(up.generation, why),
        }
        match (&self.role, &*self.state.borrow()) {
            (Role::Main(..), State::Down { why, .. }) => {
                warn!(node = self.role.node(), why = why.cause(), "redis lost");
            }
            (role, state) => debug!(role = role.name(), ?state, "redis lost"),
        }
    }

    /// Resolves when a probe fails, with the reason. A command finds out whether its connection is broken, so the main
    /// connection is only asked whether its server is still the primary, and a worker nothing.
    async fn failed_probe(&self, up: &Up) -> String {
        match &self.role {
            Role::Main(endpoint, ..) => {
                endpoint.replaced(&up.server).await;
                return "the sentinels name another primary".to_owned();
            }
            Role::Worker(_) => return std::future::pending().await,
            Role::Subscription(..) => {}
        }
        let mut socket = up.socket.clone();
        loop {
            sleep(PROBE_INTERVAL).await;
            if let Err(why) = socket.probe(SUBSCRIPTION_PROBE_TIMEOUT).await {
                return why;
            }
        }
    }

    /// Closes the socket of `generation`, if it is still the current one.
    pub(super) fn close(&self, generation: u64, why: String) {
        close(&self.state, generation, StoreError::Unreachable(why));
    }

    /// Records why the connection cannot be opened. The main connection logs each new cause, every other only the
    /// first one, because each attempt may describe the same problem in other words.
    fn explain(&self, error: StoreError, logged: &mut LoggedCauses) {
        let cause = error.cause();
        let may_be_logged = matches!(self.role, Role::Main(..)) || logged.is_empty();
        if may_be_logged && logged.note(&cause) {
            let node = self.role.node();
            warn!(
                role = self.role.name(),
                node,
                why = cause,
                "redis unreachable"
            );
        }
        self.state.send_modify(|state| {
            if let State::Down { why, .. } = state {
                *why = match error {
                    StoreError::Unfit(_) => error,
                    _ => StoreError::Unreachable(cause),
                };
            }
        });
    }

    /// A socket for a command, if the connection is up and its main connection was not replaced.
    ///
    /// Pings and sweeps have to reach the same server: a server without sweeps would announce departures of users
    /// that ping another one.
    pub(super) fn checkout(&self) -> Option<Checkout<'_>> {
        let state = self.state.borrow();
        let State::Up(up) = &*state else {
            return None;
        };
        let Socket::Commands(socket, watch) = &up.socket else {
            return None;
        };
        if !self.follows_main(up) {
            return None;
        }
        Some(Checkout::new(&self.state, up.generation, (socket, watch)))
    }

    /// A socket for a command. Waits for a connection that broke just now, or before the process `resumed`.
    pub(super) async fn checkout_soon(
        &self,
        resumed: Option<Instant>,
    ) -> Result<Checkout<'_>, StoreError> {
        if let Some(checkout) = self.checkout() {
            return Ok(checkout);
        }
        let mut state = self.state.subscribe();
        let broke_at = match &*state.borrow() {
            State::Down { since, .. } => resumed.map_or(*since, |resumed| resumed.max(*since)),
            State::Up(_) => Instant::now(),
        };
        let _ = timeout_at(broke_at + TIMEOUT, state.wait_for(State::is_up)).await;
        let why = match &*self.state.borrow() {
            State::Down { why, .. } => why.clone(),
            State::Up(_) => StoreError::Unreachable("the connection was replaced".to_owned()),
        };
        self.checkout().ok_or(why)
    }

    /// Waits for a subscription without a reader. Returns its generation and its messages.
    pub(super) async fn subscribed(&self) -> (u64, Messages, MessageStream) {
        let mut state = self.state.subscribe();
        loop {
            if let State::Up(Up {
                generation,
                socket: Socket::Messages(messages),
                ..
            }) = &*state.borrow_and_update()
                && let Some(stream) = messages.take_stream()
            {
                return (*generation, messages.clone(), stream);
            }
            let _ = state.changed().await;
        }
    }

    /// Closes the socket, whichever it is.
    pub(super) fn close_now(&self, why: StoreError) {
        let generation = self.state.borrow().generation();
        if let Some(generation) = generation {
            close(&self.state, generation, why);
        }
    }
}
