use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{ScriptInvocation, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::connection::Endpoint;
use super::grant::Grant;
use super::groups::former::FormerMembers;
use super::keys::Keys;
use super::lanes::Lanes;
use super::layout::Layout;
use super::load_shedder::{CALL_TIMEOUT, Waiting};
use super::node::NodeSettings;
use super::ping_batcher::PingBatcher;
use super::replies;
use super::scripts::Scripts;
use super::subscription::Subscription;
use super::topology::Topology;
use crate::config::{Config, InvalidSetting, RedisUrl};
use crate::memory_budget::MemoryBudget;
use crate::model::{Closing, Connected, Disconnected, UserState};
use crate::model::{ConnectionId, Partition, PartitionSet, Partitions, Timestamp, UserId, millis};
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
    pub(super) lanes: Arc<Lanes>,
    /// One for each partition.
    pings: Arc<[Arc<PingBatcher>]>,
    pub(super) layout: Arc<Layout>,
    pub(super) scripts: Arc<Scripts>,
    pub(super) lifetimes: Lifetimes,
    pub(super) former_members: Arc<FormerMembers>,
    /// One for each partition.
    pub(super) grants: Arc<[Arc<Grant>]>,
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
        let partitions = config.redis.partitions_at(url)?;
        let layout = Arc::new(Layout::new(&config.redis.key_prefix, partitions));
        let bus = partitions.all().map(|each| layout.keys(each).bus.clone());
        let settings = NodeSettings {
            layout: Arc::clone(&layout),
            bus: bus.collect(),
            keyspace_events: config.redis.keyspace_events,
            refresh: Arc::default(),
        };
        let requests = MemoryBudget::detect().http1_requests();
        let topology = Topology::new(endpoint, partitions, settings, requests);
        let lanes = Arc::new(Lanes::new(&Arc::new(topology)));
        let scripts = Arc::new(Scripts::new());
        let grants: Arc<[Arc<Grant>]> = partitions.all().map(|_| Arc::default()).collect();
        let pings = partitions.all().zip(&*grants).map(|(partition, grant)| {
            let keys = layout.keys(partition);
            let pings = PingBatcher::new(&lanes, keys, &scripts, grant, config.presence.ttl);
            Arc::new(pings)
        });
        Ok(Self {
            pings: pings.collect(),
            lanes,
            layout,
            scripts,
            grants,
            lifetimes: Lifetimes::of(config),
            former_members: Arc::default(),
        })
    }

    /// The same store with connections of its own. All share the load shedders of the nodes.
    pub(in crate::store) fn with_own_connection(&self) -> Self {
        let lanes = Arc::new(self.lanes.with_own_connections());
        Self {
            pings: self
                .pings
                .iter()
                .map(|pings| Arc::new(pings.with_lanes(&lanes)))
                .collect(),
            lanes,
            ..self.clone()
        }
    }

    pub(in crate::store) fn partitions(&self) -> Partitions {
        self.layout.partitions()
    }

    pub(in crate::store) fn nodes(&self) -> watch::Receiver<Arc<[NodeId]>> {
        self.lanes.topology.serving()
    }

    pub(in crate::store) fn partitions_on(&self, node: NodeId) -> PartitionSet {
        let node = self.lanes.topology.node(node);
        node.map(|node| node.served()).unwrap_or_default()
    }

    /// Runs a call about a partition for at most 1.6 s. Fails at once where too many calls wait for its server.
    pub(super) async fn with_deadline<T>(
        &self,
        partition: Partition,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.lanes.of(partition)?.node.load_shedder.run(call).await
    }

    /// Runs a call about several partitions for at most 1.6 s. Fails at once where too many calls wait for one of their
    /// servers.
    pub(super) async fn with_deadline_over<T>(
        &self,
        partitions: PartitionSet,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let lanes = partitions.iter().map(|each| self.lanes.of(each));
        let mut lanes = lanes.collect::<Result<Vec<_>, _>>()?;
        lanes.sort_unstable_by_key(|lane| lane.node.id);
        lanes.dedup_by_key(|lane| lane.node.id);
        for lane in &lanes {
            lane.node.load_shedder.check_room(0)?;
        }
        let counted = lanes.iter().map(|lane| lane.node.load_shedder.count(1));
        let counted: Vec<_> = counted.collect();
        let answer = timeout(CALL_TIMEOUT, call).await;
        let answer = answer.unwrap_or_else(|_| Err(StoreError::too_slow()))?;
        counted.iter().for_each(Waiting::answered);
        Ok(answer)
    }

    pub(in crate::store) async fn supervise(&self) {
        self.lanes.supervise().await;
    }

    /// Sends a write command, because a replica and a server without memory accept `PING` but refuse writes. `SETRANGE` of
    /// an empty value neither changes nor creates a key.
    pub(in crate::store) async fn check(&self) -> Readiness {
        let table = self.lanes.topology.table();
        let firsts =
            (0..table.nodes().len()).filter_map(|node| table.partitions_of(node).iter().next());
        let checks = join_all(firsts.map(|partition| self.check_one(partition))).await;
        let (count, failures) = (checks.len(), checks.into_iter().filter_map(Result::err));
        let failures: Vec<StoreError> = failures.collect();
        let lacking = self.lanes.topology.lacking();
        match failures.first() {
            None if count == 0 => Readiness::NotReady(self.lanes.topology.why_unserved()),
            None => lacking.map_or(Readiness::Ready, Readiness::Degraded),
            Some(error) if failures.len() == count => Readiness::NotReady(error.cause()),
            Some(error) => {
                let why = format!(
                    "{} of {count} masters do not answer: {}",
                    failures.len(),
                    error.cause()
                );
                Readiness::Degraded(
                    lacking.map_or(why.clone(), |lacking| format!("{lacking}; {why}")),
                )
            }
        }
    }

    async fn check_one(&self, partition: Partition) -> Result<(), StoreError> {
        let mut setrange = redis::cmd("SETRANGE");
        setrange
            .arg(&self.layout.keys(partition).epoch)
            .arg(0)
            .arg("");
        let answer = timeout(
            READY_TIMEOUT,
            self.lanes.to(partition).query::<()>(&setrange),
        )
        .await;
        answer.unwrap_or_else(|_| Err(StoreError::too_slow()))
    }

    /// A subscription to the partitions on `node`. Of a node that left the cluster, the subscription is lost at once.
    pub(in crate::store) async fn subscribe(&self, node: NodeId) -> Subscription {
        let node = self.lanes.topology.node(node);
        Subscription::open(
            node.map(|node| Arc::clone(&node.subscription)),
            &self.layout,
        )
        .await
    }

    /// Extends only the key of the user if it shows that this is enough: the connection is the unnamed one, the user has
    /// no other, and it has the grant of this instance. Else runs the script for connects and pings.
    pub(in crate::store) async fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Connected, StoreError> {
        let began = Instant::now();
        let partition = self.layout.partitions().of(user);
        let place = partition.index();
        if connection.is_unnamed() && self.grants[place].number() != 0 {
            // The reply has no time. A deadline from before the request promises no more than Redis keeps.
            let sent_at = self.now(partition);
            if self.pings[place].extend(user).await? {
                return Ok(Connected {
                    became_online: false,
                    expires_at: sent_at.plus(self.lifetimes.ttl),
                });
            }
        }
        // Boxed, because few pings need this future and all others would carry its size.
        let call = self.connect_or_ping(user, connection, Call::Ping);
        let lane = self.lanes.of(partition)?;
        Box::pin(lane.node.load_shedder.run_until(began + CALL_TIMEOUT, call)).await
    }

    pub(in crate::store) async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Connected, StoreError> {
        let call = self.connect_or_ping(user, connection, Call::Connect);
        self.with_deadline(self.layout.partitions().of(user), call)
            .await
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
            .key(&keys.shortened)
            .key(&keys.absent);
        invocation
            .arg(user.as_str())
            .arg(connection.as_str())
            .arg(match kind {
                Call::Connect => "connect",
                Call::Ping => "ping",
            })
            .arg(limit);
        let answer = self.lanes.to(keys.partition).script(&invocation).await?;
        replies::connected(answer, limit)
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
            .key(&keys.absent)
            .key(&keys.last_seen);
        invocation
            .arg(user.as_str())
            .arg(connection)
            .arg(millis(self.lifetimes.last_seen));
        let call = self.lanes.to(keys.partition).script(&invocation);
        let (online, became_offline) = self.with_deadline(keys.partition, call).await?;
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
            .key(&keys.absent)
            .key(&keys.last_seen);
        read.arg(user.as_str());
        let read = self.lanes.to(keys.partition).script(&read);
        let answer: Vec<Value> = self.with_deadline(keys.partition, read).await?;
        replies::user_state(answer)
    }

    /// An invocation with the keys and arguments of `announce.lua`, the prelude of all scripts. Each script needs the key
    /// that never exists in addition.
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
    pub(in crate::store) fn now(&self, partition: Partition) -> Timestamp {
        match self.lanes.topology.table().owner(partition) {
            Some(node) => node.clock.now(),
            None => Timestamp::of_system_clock(),
        }
    }
}
