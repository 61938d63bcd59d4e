use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use redis::ScriptInvocation;
use tokio::sync::watch;
use tokio::time::timeout;

use super::batches::batchers::Batchers;
use super::batches::ping_batcher::PingBatcher;
use super::connection::Endpoint;
use super::format::grant::Grant;
use super::format::keys::Keys;
use super::format::layout::Layout;
use super::former_members::FormerMembers;
use super::node::NodeSettings;
use super::node::load_shedder::{CALL_TIMEOUT, Waiting};
use super::node::pulse::Pulse;
use super::routing::lanes::Lanes;
use super::routing::topology::Topology;
use super::scripts::Scripts;
use super::subscription::Subscription;
use crate::config::{Config, InvalidSetting, RedisUrl};
use crate::memory_budget::MemoryBudget;
use crate::model::{MoveRole, Partition, PartitionSet, Partitions, Timestamp, millis};
use crate::store::error::StoreError;
use crate::store::lifetimes::Lifetimes;
use crate::store::node_id::NodeId;
use crate::store::policy::SHORTEST_OUTAGE;
use crate::store::quiet::Quiet;

/// A store in Redis 7.0 or newer, or in a compatible server.
#[derive(Clone, Debug)]
pub struct RedisStore {
    pub(super) lanes: Arc<Lanes>,
    /// One for each partition.
    pub(super) batchers: Arc<[Batchers]>,
    pub(super) layout: Arc<Layout>,
    pub(super) scripts: Arc<Scripts>,
    pub(super) lifetimes: Lifetimes,
    pub(super) former_members: Arc<FormerMembers>,
    /// Whether the outbox of each partition is being delivered.
    pub(super) delivering: Arc<[AtomicBool]>,
    /// One for each partition.
    pub(super) grants: Arc<[Arc<Grant>]>,
    pub(super) quiet: Arc<Quiet>,
    /// Whether a message says that an instance takes part in a move from this store.
    pub(super) move_was_noted: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
}

impl RedisStore {
    /// A store that connects when [`Store::supervise`](crate::store::Store::supervise) is polled. Fails where a setting
    /// is invalid.
    pub fn open(config: &Config, url: &RedisUrl, role: MoveRole) -> Result<Self, InvalidSetting> {
        let authorities = config.redis.ca_file_at(url).map(|file| {
            std::fs::read(file).map_err(|error| {
                let why = format!("{}: {error}", file.display());
                InvalidSetting::new("PRESENCE_REDIS_CA_FILE", why)
            })
        });
        let endpoint = Endpoint::new(url, authorities.transpose()?)?;
        let partitions = config.redis.partitions_at(url)?;
        let layout = Arc::new(Layout::new(&config.redis.key_prefix, partitions, role));
        let bus = partitions.all().map(|each| layout.keys(each).bus.clone());
        let pulse: Arc<Pulse> = Arc::default();
        let settings = NodeSettings {
            layout: Arc::clone(&layout),
            bus: bus.collect(),
            keyspace_events: config.redis.keyspace_events,
            refresh: Arc::default(),
            pulse: Arc::clone(&pulse),
        };
        let requests = MemoryBudget::detect().http1_requests();
        let topology = Topology::new(endpoint, partitions, settings, requests);
        let lanes = Arc::new(Lanes::new(&Arc::new(topology)));
        let scripts = Arc::new(Scripts::new());
        let grants: Arc<[Arc<Grant>]> = partitions.all().map(|_| Arc::default()).collect();
        let lifetimes = Lifetimes::of(config);
        let batchers = partitions.all().zip(&*grants).map(|(partition, grant)| {
            let of = (&layout, partition);
            Batchers::new(PingBatcher::new(&lanes, of, &scripts, grant, &lifetimes))
        });
        Ok(Self {
            batchers: batchers.collect(),
            lanes,
            layout,
            scripts,
            grants,
            former_members: Arc::default(),
            delivering: partitions.all().map(|_| AtomicBool::default()).collect(),
            lifetimes,
            quiet: Arc::new(Quiet::new(partitions)),
            move_was_noted: Arc::default(),
            pulse,
        })
    }

    /// The same store with connections of its own. All share the load shedders of the nodes.
    pub(in crate::store) fn with_own_connection(&self) -> Self {
        let lanes = Arc::new(self.lanes.with_own_connections());
        let batchers = self.batchers.iter();
        Self {
            batchers: batchers.map(|each| each.with_lanes(&lanes)).collect(),
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

    pub(in crate::store) fn address_of(&self, node: NodeId) -> Option<String> {
        let node = self.lanes.topology.node(node)?;
        node.address_in_cluster().map(ToString::to_string)
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
        tokio::join!(self.lanes.supervise(), self.pulse.tick());
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

    /// An invocation with the keys and arguments of the prelude `announce.lua`. Each script needs the key that never
    /// exists in addition.
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

    /// An invocation with the keys and arguments of the preludes `announce.lua` to `connections.lua` and
    /// `states.lua`.
    pub(super) fn about_connections<'a>(
        &self,
        script: &'a redis::Script,
        keys: &Keys,
    ) -> ScriptInvocation<'a> {
        let mut invocation = self.announcing(script, keys);
        invocation
            .key(&keys.swept)
            .key(&keys.outages)
            .key(&keys.states)
            .key(&keys.changes);
        invocation.arg(self.serving(keys));
        invocation
    }

    /// The fifth argument of the scripts with the prelude `outages.lua`: which time without a sweep is an outage.
    pub(super) fn serving(&self, keys: &Keys) -> String {
        let shortest = millis(SHORTEST_OUTAGE);
        let covered = self.quiet.covered_until(keys.partition);
        let mut serving = format!("{shortest} {}", covered.as_millis());
        if let Some(pause) = self.pulse.throttled_for() {
            // A write into memory cannot fail.
            let _ = write!(serving, " {}", millis(pause));
        }
        serving
    }

    /// The clock of the server of a partition, as this instance estimates it.
    pub(in crate::store) fn now(&self, partition: Partition) -> Timestamp {
        let estimated = self.lanes.with_node(partition, |node| node.clock.now());
        estimated.unwrap_or_else(Timestamp::of_system_clock)
    }

    /// Asks the server of a partition for the time. After a script that was too late by the clock of Redis, the clock
    /// may have been set ahead since the last sweep.
    pub(super) async fn read_clock(&self, partition: Partition) -> Result<(), StoreError> {
        let asked = Timestamp::of_system_clock();
        let route = self.lanes.to(partition);
        let (seconds, micros): (u64, u64) = route.query_idempotent(&redis::cmd("TIME")).await?;
        let now = Timestamp::from_millis(seconds * 1_000 + micros / 1_000);
        self.lanes
            .with_node(partition, |node| node.clock.set(now, asked));
        Ok(())
    }
}
