//! The messages of the channels that a subscription receives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{Msg, RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_stream::StreamExt;
use tracing::{debug, warn};

use super::errors::{breaks_the_connection, is_unknown_command, store_error};
use super::pushes::{Push, Pushes};
use super::server::Server;
use crate::config::KeyspaceEvents;
use crate::model::PartitionSet;
use crate::store::error::StoreError;
use crate::store::redis::cluster::refresh::Refresh;

/// How long a subscription stays without a channel that the server refused.
const CHANNEL_RETRY: Duration = Duration::from_secs(1);

/// The channels that a subscription receives.
#[derive(Clone, Debug)]
pub(in crate::store::redis) struct Channels {
    /// The channel on which the scripts publish the events of each partition, in order. The only partition has a usual
    /// channel. Several partitions have shard channels, which only the node of the partition delivers.
    pub(in crate::store::redis) bus: Arc<[String]>,
    /// The partitions on the server.
    pub(in crate::store::redis) served: watch::Receiver<PartitionSet>,
    /// Asks for the newest view of the cluster.
    pub(in crate::store::redis) refresh: Arc<Refresh>,
    /// The number of the database, whose expiry notifications have a channel of their own.
    pub(in crate::store::redis) database: i64,
    /// Whether to subscribe to expiry notifications, and to configure the server to send them.
    pub(in crate::store::redis) keyspace_events: KeyspaceEvents,
}

/// The messages of a subscription.
#[derive(Clone)]
pub(in crate::store::redis) struct Messages {
    socket: Subscribed,
    /// `None` after the one reader took it.
    stream: Arc<Mutex<Option<MessageStream>>>,
    /// The partitions on the server when the subscription began.
    served: PartitionSet,
    /// Whether a message arrived since the last probe.
    heard: Arc<AtomicBool>,
    /// Whether the server refused a channel of a partition.
    lacks_channels: bool,
}

/// The sending half of a subscription.
#[derive(Clone)]
enum Subscribed {
    Usual(PubSubSink),
    Sharded(MultiplexedConnection),
}

/// The messages that arrive on the connection of a subscription.
pub(in crate::store::redis) enum MessageStream {
    /// Of usual channels.
    Usual(PubSubStream),
    /// Also of shard channels.
    Sharded(Pushes),
}

/// A message of a channel.
pub(in crate::store::redis) enum Message {
    /// Of a usual channel.
    Usual(Msg),
    /// Of any channel.
    Pushed(Push),
}

impl MessageStream {
    /// The next message; `None` when messages may be missing, and when the connection is closed.
    pub(in crate::store::redis) async fn next(&mut self) -> Option<Message> {
        match self {
            Self::Usual(stream) => stream.next().await.map(Message::Usual),
            Self::Sharded(pushes) => pushes.next().await.map(Message::Pushed),
        }
    }
}

impl Message {
    /// The name of the channel.
    pub(in crate::store::redis) fn channel(&self) -> &[u8] {
        match self {
            Self::Usual(message) => message.get_channel_name().as_bytes(),
            Self::Pushed(push) => &push.channel,
        }
    }

    /// The text that was published.
    pub(in crate::store::redis) fn payload(&self) -> &[u8] {
        match self {
            Self::Usual(message) => message.get_payload_bytes(),
            Self::Pushed(push) => &push.payload,
        }
    }
}

impl Messages {
    /// Subscribes to `channels` on `server`.
    pub(super) async fn subscribe(
        server: &Server,
        channels: &Channels,
    ) -> Result<Self, StoreError> {
        let served = *channels.served.borrow();
        if channels.bus.len() > 1 {
            return Self::subscribe_sharded(server, channels, served).await;
        }
        let pubsub = server.subscriptions().await.map_err(store_error)?;
        let (mut sink, stream) = pubsub.split();
        for bus in &*channels.bus {
            sink.subscribe(bus).await.map_err(store_error)?;
        }
        if let Some(expired) = channels.expired() {
            channels.note_expired(sink.subscribe(expired).await)?;
        }
        let stream = MessageStream::Usual(stream);
        Ok(Self::new(Subscribed::Usual(sink), stream, served))
    }

    async fn subscribe_sharded(
        server: &Server,
        channels: &Channels,
        served: PartitionSet,
    ) -> Result<Self, StoreError> {
        let (mut socket, pushes) = server.pushes().await.map_err(store_error)?;
        let bus = served
            .iter()
            .filter_map(|each| channels.bus.get(each.index()));
        let mut subscribe = redis::pipe();
        for channel in bus {
            // One command for each channel, because the channels are in different slots.
            subscribe.cmd("SSUBSCRIBE").arg(channel);
        }
        let mut lacks_channels = false;
        if !subscribe.is_empty() {
            let answers = socket
                .send_packed_commands(&subscribe, 0, subscribe.len())
                .await;
            for answer in answers.map_err(store_error)? {
                if let Err(error) = answer.extract_error() {
                    channels.refused(error)?;
                    lacks_channels = true;
                }
            }
        }
        if let Some(expired) = channels.expired() {
            let answer = redis::cmd("SUBSCRIBE").arg(expired).to_owned();
            channels.note_expired(answer.query_async::<Value>(&mut socket).await.map(drop))?;
        }
        let stream = MessageStream::Sharded(pushes);
        let messages = Self::new(Subscribed::Sharded(socket), stream, served);
        Ok(Self {
            lacks_channels,
            ..messages
        })
    }

    fn new(socket: Subscribed, stream: MessageStream, served: PartitionSet) -> Self {
        Self {
            socket,
            stream: Arc::new(Mutex::new(Some(stream))),
            served,
            heard: Arc::default(),
            lacks_channels: false,
        }
    }

    /// The stream of messages; `None` for every caller but the first.
    pub(super) fn take_stream(&self) -> Option<MessageStream> {
        self.stream.lock().take()
    }

    /// The partitions whose messages arrive.
    pub(in crate::store::redis) fn served(&self) -> PartitionSet {
        self.served
    }

    /// Resolves when the subscription has to begin again, because other partitions are on the server now, or because
    /// the server refused a channel.
    pub(super) async fn outdated(&self, channels: &Channels) {
        let retry = async {
            if self.lacks_channels {
                sleep(CHANNEL_RETRY).await
            } else {
                std::future::pending().await
            }
        };
        let mut served = channels.served.clone();
        let changed = async {
            if served.wait_for(|now| *now != self.served).await.is_err() {
                // The partitions on the server never change.
                std::future::pending().await
            }
        };
        tokio::select! {
            () = retry => {}
            () = changed => {}
        }
    }

    /// Notes that a message arrived. A message counts as the reply to a probe.
    pub(in crate::store::redis) fn note_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether a message arrived since the last call.
    pub(super) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Sends a `PING` and waits for the reply.
    pub(super) async fn ping(&mut self) -> RedisResult<()> {
        match &mut self.socket {
            Subscribed::Usual(sink) => sink.ping::<Value>().await.map(drop),
            Subscribed::Sharded(socket) => redis::cmd("PING").query_async(socket).await,
        }
    }
}

impl Channels {
    /// The channel of the expiry notifications, if they are used.
    fn expired(&self) -> Option<String> {
        let is_used = self.keyspace_events != KeyspaceEvents::Off;
        is_used.then(|| format!("__keyevent@{}__:expired", self.database))
    }

    /// Judges the answer to the subscription to the expiry notifications, which may be refused.
    fn note_expired(&self, answer: RedisResult<()>) -> Result<(), StoreError> {
        match answer {
            Err(error) if breaks_the_connection(&error) => return Err(store_error(error)),
            Err(error) if self.keyspace_events == KeyspaceEvents::Listen => {
                warn!(%error, "cannot subscribe to expiry notifications");
            }
            Err(error) => debug!(%error, "cannot subscribe to expiry notifications"),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Judges the refusal of a shard channel. Another node serves the slot, or no node. Every other error is final.
    fn refused(&self, error: RedisError) -> Result<(), StoreError> {
        if error.is_cluster_error() {
            debug!(%error, "cannot subscribe to a shard channel");
            self.refresh.ask(None);
            return Ok(());
        }
        if is_unknown_command(&error) {
            return Err(StoreError::Unfit(NO_SHARD_CHANNELS.to_owned()));
        }
        Err(store_error(error))
    }
}

/// Why a server cannot have several partitions.
const NO_SHARD_CHANNELS: &str =
    "the server has no sharded pub/sub, which PRESENCE_PARTITIONS above 1 needs";
