//! The two kinds of open sockets: for commands, and for the messages of channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, Value};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::errors::{breaks_the_connection, store_error};
use super::server::Server;
use super::server_info::ServerInfo;
use crate::config::KeyspaceEvents;
use crate::store::error::StoreError;

/// How long a connection may take to open, from the lookup of the server to the last round trip before it serves.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a command may take. Together with the patience of a checkout, a call stays under the 2 s after which
/// clients are promised an answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1_200);

/// How long the reply to a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many commands may wait to be written. The default of the redis crate, 50, makes callers wait for the writer
/// task under load (documentation of `set_pipeline_buffer_size`).
const PIPELINE_BUFFER: usize = 4_096;

/// An open socket to a Redis server.
#[derive(Clone)]
pub(super) enum Socket {
    /// Carries commands and their replies.
    Commands(MultiplexedConnection),
    /// Delivers the messages of the subscribed channels.
    Messages(Messages),
}

/// The channels that a subscription receives.
#[derive(Clone, Debug)]
pub(in crate::store::redis) struct Channels {
    /// The channel on which the scripts publish events.
    pub(in crate::store::redis) bus: String,
    /// The number of the database, whose expiry notifications have a channel of their own.
    pub(in crate::store::redis) database: i64,
    /// Whether to subscribe to expiry notifications, and to configure the server to send them.
    pub(in crate::store::redis) keyspace_events: KeyspaceEvents,
}

/// The messages of a subscription.
#[derive(Clone)]
pub(in crate::store::redis) struct Messages {
    sink: PubSubSink,
    /// `None` after the one reader took it.
    stream: Arc<Mutex<Option<PubSubStream>>>,
    /// Whether a message arrived since the last probe.
    heard: Arc<AtomicBool>,
}

/// A socket for commands, and what its server says about itself. Fails if the server cannot serve now.
pub(super) async fn open_commands(
    server: &Server,
) -> Result<(MultiplexedConnection, ServerInfo), StoreError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_pipeline_buffer_size(PIPELINE_BUFFER);
    let mut commands = server.commands(&config).await.map_err(store_error)?;
    let info = ServerInfo::of(&mut commands).await?;
    info.check()?;
    Ok((commands, info))
}

impl Messages {
    /// Subscribes to `channels` on `server`.
    pub(super) async fn subscribe(
        server: &Server,
        channels: &Channels,
    ) -> Result<Self, StoreError> {
        let pubsub = server.subscriptions().await.map_err(store_error)?;
        let (mut sink, stream) = pubsub.split();
        sink.subscribe(&channels.bus).await.map_err(store_error)?;
        if channels.keyspace_events != KeyspaceEvents::Off {
            let expired = format!("__keyevent@{}__:expired", channels.database);
            match sink.subscribe(expired).await {
                Err(error) if breaks_the_connection(&error) => return Err(store_error(error)),
                Err(error) if channels.keyspace_events == KeyspaceEvents::Listen => {
                    warn!(%error, "cannot subscribe to expiry notifications");
                }
                Err(error) => debug!(%error, "cannot subscribe to expiry notifications"),
                Ok(()) => {}
            }
        }
        Ok(Self {
            sink,
            stream: Arc::new(Mutex::new(Some(stream))),
            heard: Arc::default(),
        })
    }

    /// The stream of messages; `None` for every caller but the first.
    pub(super) fn take_stream(&self) -> Option<PubSubStream> {
        self.stream.lock().take()
    }

    /// Notes that a message arrived. A message counts as the reply to a probe.
    pub(in crate::store::redis) fn note_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }
}

impl Socket {
    /// Sends a `PING` unless the socket just delivered a message. Fails if the connection is broken.
    pub(super) async fn probe(&mut self) -> Result<(), RedisError> {
        let answer = match self {
            Self::Messages(messages) if messages.heard.swap(false, Ordering::Relaxed) => {
                return Ok(());
            }
            Self::Messages(messages) => timeout(PROBE_TIMEOUT, messages.sink.ping::<Value>()).await,
            Self::Commands(commands) => {
                let ping = redis::cmd("PING");
                timeout(PROBE_TIMEOUT, ping.query_async(commands)).await
            }
        };
        match answer {
            Err(_) => Err((ErrorKind::Io, "no reply to a probe").into()),
            Ok(Err(error)) if breaks_the_connection(&error) => Err(error),
            // A refusal is a reply.
            Ok(_) => Ok(()),
        }
    }
}

/// Adds the flags for `expired` events to `notify-keyspace-events`.
///
/// `CONFIG SET` replaces the whole value, so the flags of other users of the server are read and kept. The setting
/// belongs to the whole server, so a change is logged.
pub(super) async fn enable_expired_events(
    mut commands: MultiplexedConnection,
) -> Result<(), RedisError> {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg("notify-keyspace-events");
    let current: Vec<String> = get.query_async(&mut commands).await?;
    let from = current.into_iter().nth(1).unwrap_or_default();
    let mut flags = from.clone();
    if flags.contains('E') && flags.contains(['x', 'A']) {
        return Ok(());
    }
    if !flags.contains('E') {
        flags.push('E');
    }
    if !flags.contains(['x', 'A']) {
        flags.push('x');
    }
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("notify-keyspace-events").arg(&flags);
    set.query_async::<()>(&mut commands).await?;
    info!(%from, to = %flags, "changed notify-keyspace-events of the whole Redis server");
    Ok(())
}
