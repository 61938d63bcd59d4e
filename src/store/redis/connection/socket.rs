//! The two kinds of open sockets: for commands, and for the messages of channels.

use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;
use tracing::info;

use super::errors::{breaks_the_connection, store_error};
use super::messages::Messages;
use super::server::{Server, limits};
use super::server_info::ServerInfo;
use super::watched_stream::Watch;
use crate::store::error::StoreError;

/// How often a subscription is probed, and how long after the last byte from the server another connection is probed
/// before it carries a call.
///
/// Servers close idle connections (the `timeout` setting of Redis). A subscription has no command in flight that
/// could fail, so without probes it would stay on a dead connection for ever (redis-rs #404, centrifugo #1189).
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a subscription waits for the reply to a probe. No call waits for it.
pub(super) const SUBSCRIPTION_PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// An open socket to a Redis server.
#[derive(Clone)]
pub(super) enum Socket {
    /// Carries commands and their replies.
    Commands(MultiplexedConnection, Arc<Watch>),
    /// Delivers the messages of the subscribed channels.
    Messages(Messages),
}

/// A socket for commands, and what its server says about itself. Fails if the server cannot serve now.
pub(super) async fn open_commands(
    server: &Server,
) -> Result<(MultiplexedConnection, Arc<Watch>, ServerInfo), StoreError> {
    let (mut commands, watch) = server.commands(&limits()).await.map_err(store_error)?;
    let info = ServerInfo::of(&mut commands).await?;
    info.check()?;
    Ok((commands, watch, info))
}

impl Socket {
    /// Sends a `PING` unless the socket just delivered a message. Fails with the cause if the connection is broken, or
    /// if no reply comes within `limit`.
    pub(super) async fn probe(&mut self, limit: Duration) -> Result<(), String> {
        let answer = match self {
            Self::Messages(messages) if messages.take_heard() => return Ok(()),
            Self::Messages(messages) => timeout(limit, messages.ping()).await,
            Self::Commands(commands, _) => {
                let ping = redis::cmd("PING");
                timeout(limit, ping.query_async(commands)).await
            }
        };
        match answer {
            Err(_) => Err("no reply to a probe".to_owned()),
            Ok(Err(error)) if breaks_the_connection(&error) => Err(error.to_string()),
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
