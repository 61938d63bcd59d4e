use std::time::Duration;

use redis::aio::{PubSubSink, PubSubStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::StreamExt;
use tracing::{debug, info, warn};

use super::codec;
use super::connection::errors::{breaks_the_connection, store_error};
use super::connection::{Moved, in_time};
use super::connections::Connections;
use super::keys::Keys;
use crate::config::KeyspaceEvents;
use crate::store::{Signal, StoreError};

/// How long the connection may be silent before it is probed, and how long a probe may take.
///
/// A subscriber has no command in flight that could fail, so it would sit on a dead connection for
/// ever (redis-rs #404, centrifugo #1189).
const PROBE_AFTER: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection of its own that hears the bus and, where wanted, the expiry notifications.
pub struct Subscription {
    sink: PubSubSink,
    stream: PubSubStream,
    moved: Moved,
    keys: Keys,
    silent_since: Instant,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription")
    }
}

impl Subscription {
    pub(super) async fn open(
        connections: &Connections,
        keys: &Keys,
        keyspace_events: KeyspaceEvents,
    ) -> Result<Self, StoreError> {
        let channel = match keyspace_events {
            KeyspaceEvents::Off => None,
            _ => Some(format!(
                "__keyevent@{}__:expired",
                connections.main.database()
            )),
        };
        connections.main.up().await;
        let opening = async {
            let (server, moved) = connections.main.server()?;
            let pubsub = server.subscriptions().await.map_err(store_error)?;
            let (mut sink, stream) = pubsub.split();
            sink.subscribe(&keys.bus).await.map_err(store_error)?;
            if let Some(channel) = channel {
                match sink.subscribe(channel).await {
                    Err(error) if breaks_the_connection(&error) => return Err(store_error(error)),
                    Err(error) if keyspace_events == KeyspaceEvents::Listen => {
                        warn!(%error, "expiry events are not listened to");
                    }
                    Err(error) => debug!(%error, "expiry events are not listened to"),
                    Ok(()) => {}
                }
            }
            Ok((sink, stream, moved))
        };
        let (sink, stream, moved) = in_time(opening).await?;
        if keyspace_events == KeyspaceEvents::Configure
            && let Err(error) = switch_on_expired(connections).await
        {
            debug!(%error, "notify-keyspace-events left as it is");
        }
        Ok(Self {
            sink,
            stream,
            moved,
            keys: keys.clone(),
            silent_since: Instant::now(),
        })
    }

    pub(in crate::store) async fn next(&mut self) -> Option<Signal> {
        loop {
            let message = tokio::select! {
                message = timeout_at(self.silent_since + PROBE_AFTER, self.stream.next()) => message,
                () = self.moved.wait() => return None,
            };
            let message = match message {
                Ok(message) => message?,
                Err(_) => {
                    self.probe().await?;
                    continue;
                }
            };
            self.silent_since = Instant::now();
            if message.get_channel_name() != self.keys.bus {
                if self.keys.is_user(message.get_payload_bytes()) {
                    return Some(Signal::Expired);
                }
                continue;
            }
            let text = std::str::from_utf8(message.get_payload_bytes()).ok();
            if let Some((epoch, entries)) = text.and_then(codec::parse_message) {
                return Some(Signal::Entries(epoch, entries));
            }
            warn!("a message on the bus that is not ours was ignored");
        }
    }

    async fn probe(&mut self) -> Option<()> {
        let answer = timeout(PROBE_TIMEOUT, self.sink.ping::<redis::Value>()).await;
        self.silent_since = Instant::now();
        answer.ok()?.ok().map(|_| ())
    }
}

/// Adds what is missing for `expired` events to `notify-keyspace-events`.
///
/// `CONFIG SET` replaces the whole value, so what others have set there is read and kept. The setting belongs to the
/// whole server, so a change of it is logged.
async fn switch_on_expired(connections: &Connections) -> Result<(), StoreError> {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg("notify-keyspace-events");
    let current: Vec<String> = connections.query(&get).await?;
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
    connections.query::<()>(&set).await?;
    info!(%from, to = %flags, "changed notify-keyspace-events of the whole Redis server");
    Ok(())
}
