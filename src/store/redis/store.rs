use std::sync::Arc;
use std::time::Duration;

use redis::{ScriptInvocation, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::clock::Clock;
use super::connection::{Channels, Endpoint};
use super::connections::Connections;
use super::grant::Grant;
use super::keys::Keys;
use super::layout::Layout;
use super::load_shedder::{CALL_TIMEOUT, LoadShedder};
use super::ping_batcher::PingBatcher;
use super::replies;
use super::scripts::Scripts;
use super::subscription::Subscription;
use crate::config::{Config, InvalidSetting, RedisUrl};
use crate::model::{Closing, Connected, Disconnected, UserState};
use crate::model::{ConnectionId, Partition, Partitions, Timestamp, UserId, millis};
use crate::store::error::StoreError;
use crate::store::lifetimes::Lifetimes;
use crate::store::node_id::NodeId;
use crate::store::policy::SHORTEST_OUTAGE;
use crate::store::readiness::Readiness;

/// How long a readiness check waits for the server.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// How a connection is opened or refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Also opens a connection that was closed a moment ago.
    Connect,
    /// Is refused for a connection that was closed a moment ago, because the ping may have been sent before.
    Ping,
}

/// A store in Redis 7.0 or newer, or in a compatible server.
#[derive(Clone, Debug)]
pub struct RedisStore {
    pub(super) connections: Arc<Connections>,
    pings: Arc<PingBatcher>,
    pub(super) layout: Arc<Layout>,
    nodes: watch::Sender<Arc<[NodeId]>>,
    pub(super) scripts: Arc<Scripts>,
    pub(super) lifetimes: Lifetimes,
    pub(super) clock: Arc<Clock>,
    pub(super) grant: Arc<Grant>,
    load_shedder: Arc<LoadShedder>,
}

impl RedisStore {
    /// A store that connects when [`Store::supervise`](crate::store::Store::supervise) is polled. Fails where a setting is
    /// invalid.
    pub fn open(config: &Config, url: &RedisUrl) -> Result<Self, InvalidSetting> {
        let authorities = config.redis.ca_file.as_deref().map(|file| {
            std::fs::read(file).map_err(|error| {
                let why = format!("{}: {error}", file.display());
                InvalidSetting::new("PRESENCE_REDIS_CA_FILE", why)
            })
        });
        let endpoint = Endpoint::new(url, authorities.transpose()?)?;
        let layout = Layout::new(&config.redis.key_prefix);
        let keys = layout.keys(Partition::FIRST);
        let channels = Channels {
            bus: keys.bus.clone(),
            database: endpoint.database(),
            keyspace_events: config.redis.keyspace_events,
        };
        let connections = Arc::new(Connections::new(endpoint, channels));
        let load_shedder = Arc::new(LoadShedder::default());
        let (scripts, grant) = (Arc::new(Scripts::new()), Arc::default());
        let pings = PingBatcher::new(
            &connections,
            &load_shedder,
            keys,
            &scripts,
            &grant,
            config.presence.ttl,
        );
        Ok(Self {
            pings: Arc::new(pings),
            connections,
            layout: Arc::new(layout),
            nodes: watch::Sender::new([NodeId::ONLY].into()),
            scripts,
            grant,
            lifetimes: Lifetimes::of(config),
            clock: Arc::default(),
            load_shedder,
        })
    }

    /// The same store with a connection of its own. All share one load shedder.
    pub(in crate::store) fn with_own_connection(&self) -> Self {
        let connections = Arc::new(self.connections.with_own_connection());
        Self {
            pings: Arc::new(self.pings.with_connections(&connections)),
            connections,
            ..self.clone()
        }
    }

    pub(in crate::store) fn partitions(&self) -> Partitions {
        self.layout.partitions()
    }

    pub(in crate::store) fn nodes(&self) -> watch::Receiver<Arc<[NodeId]>> {
        self.nodes.subscribe()
    }

    /// Runs `call` for at most 1.6 s. Fails at once where too many calls wait.
    pub(super) async fn with_deadline<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.load_shedder.run(call).await
    }

    pub(in crate::store) async fn supervise(&self) {
        self.connections.supervise().await;
    }

    /// Sends a write command, because a replica and a server without memory accept `PING` but refuse writes. `SETRANGE` of
    /// an empty value neither changes nor creates a key.
    pub(in crate::store) async fn check(&self) -> Readiness {
        let mut setrange = redis::cmd("SETRANGE");
        let keys = self.layout.keys(Partition::FIRST);
        setrange.arg(&keys.epoch).arg(0).arg("");
        match timeout(READY_TIMEOUT, self.connections.query::<()>(&setrange)).await {
            Ok(Ok(())) => Readiness::Ready,
            Ok(Err(error)) => Readiness::NotReady(error.to_string()),
            Err(_) => Readiness::NotReady("no answer in time".to_owned()),
        }
    }

    pub(in crate::store) async fn subscribe(&self, _node: NodeId) -> Subscription {
        let keys = self.layout.keys(Partition::FIRST);
        Subscription::open(&self.connections.subscription, keys).await
    }

    /// Extends only the key of the user if it shows that this is enough: the connection is the unnamed one, the user has
    /// no other, and it has the grant of this instance. Else runs the script for connects and pings.
    pub(in crate::store) async fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Connected, StoreError> {
        let began = Instant::now();
        if connection.is_unnamed() && self.grant.number() != 0 {
            // The reply has no time. A deadline from before the request promises no more than Redis keeps.
            let sent_at = self.now(self.layout.partitions().of(user));
            if self.pings.extend(user).await? {
                return Ok(Connected {
                    became_online: false,
                    expires_at: sent_at.plus(self.lifetimes.ttl),
                });
            }
        }
        // Boxed, because few pings need this future and all others would carry its size.
        let call = self.connect_or_ping(user, connection, Call::Ping);
        Box::pin(self.load_shedder.run_until(began + CALL_TIMEOUT, call)).await
    }

    pub(in crate::store) async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Connected, StoreError> {
        let call = self.connect_or_ping(user, connection, Call::Connect);
        self.with_deadline(call).await
    }

    async fn connect_or_ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        kind: Call,
    ) -> Result<Connected, StoreError> {
        let limit = self.lifetimes.user_connections;
        let keys = self.layout.of(user);
        let mut invocation = self.about_connections(&self.scripts.connect, keys);
        invocation
            .key(keys.user(user))
            .key(keys.connections(user))
            .key(keys.closed(user))
            .key(&keys.shortened);
        invocation
            .arg(user.as_str())
            .arg(connection.as_str())
            .arg(match kind {
                Call::Connect => "connect",
                Call::Ping => "ping",
            })
            .arg(limit);
        replies::connected(self.connections.script(&invocation).await?, limit)
    }

    pub(in crate::store) async fn disconnect(
        &self,
        user: &UserId,
        closing: &Closing,
    ) -> Result<Disconnected, StoreError> {
        let connection = match closing {
            Closing::One(connection) => connection.as_str(),
            Closing::All => "",
        };
        let keys = self.layout.of(user);
        let mut invocation = self.about_connections(&self.scripts.disconnect, keys);
        invocation
            .key(keys.user(user))
            .key(keys.connections(user))
            .key(keys.closed(user))
            .key(&keys.shortened)
            .key(&keys.last_seen);
        invocation
            .arg(user.as_str())
            .arg(connection)
            .arg(millis(self.lifetimes.last_seen));
        let call = self.connections.script(&invocation);
        let (online, became_offline) = self.with_deadline(call).await?;
        Ok(Disconnected {
            online,
            became_offline,
        })
    }

    pub(in crate::store) async fn user(&self, user: &UserId) -> Result<UserState, StoreError> {
        let keys = self.layout.of(user);
        let mut read = self.about_connections(&self.scripts.user, keys);
        read.key(keys.user(user))
            .key(keys.connections(user))
            .key(&keys.last_seen);
        read.arg(user.as_str());
        let answer: Vec<Value> = self.with_deadline(self.connections.script(&read)).await?;
        replies::user_state(answer)
    }

    /// An invocation with the keys and arguments of `announce.lua`, the prelude of all scripts.
    pub(super) fn announcing<'a>(
        &self,
        script: &'a redis::Script,
        keys: &Keys,
    ) -> ScriptInvocation<'a> {
        let mut invocation = script.prepare_invoke();
        invocation
            .key(&keys.deadlines)
            .key(&keys.events)
            .key(&keys.epoch)
            .key(&keys.grants)
            .key(&keys.held);
        invocation
            .arg(&keys.bus)
            .arg(millis(self.lifetimes.history))
            .arg(millis(self.lifetimes.ttl))
            .arg(millis(self.lifetimes.ping_interval));
        invocation
    }

    /// An invocation with the keys and arguments of the preludes `announce.lua` and `connections.lua`.
    pub(super) fn about_connections<'a>(
        &self,
        script: &'a redis::Script,
        keys: &Keys,
    ) -> ScriptInvocation<'a> {
        let mut invocation = self.announcing(script, keys);
        invocation.key(&keys.swept).key(&keys.outages);
        invocation.arg(millis(SHORTEST_OUTAGE));
        invocation
    }

    /// The clock of the server of a partition, as this instance estimates it.
    pub(in crate::store) fn now(&self, _partition: Partition) -> Timestamp {
        self.clock.now()
    }
}
