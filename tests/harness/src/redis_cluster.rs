//! A real Redis Cluster: six servers, three masters with a replica each. A test may kill, freeze and fail over nodes,
//! move slots, and add and remove nodes.
//!
//! Nodes have numbers: 0 to 2 are the first masters, and 3 to 5 their replicas in the same order. A failover exchanges
//! the roles of such a pair.

mod failures;
mod slots;
mod view;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use redis::FromRedisValue;
use tokio::time::Instant;

pub use self::slots::OpenSlot;
use self::view::View;
use crate::names::{Names, SLOTS};
use crate::redis_server::RedisServer;
use crate::serial::run_quietly;
use crate::wait::{eventually, eventually_true};

const MASTERS: usize = 3;

/// A silent master is failed over after this time and an election, about a second.
pub const NODE_TIMEOUT_MS: u64 = 2_000;

/// Replicas stay with their master, and a master without slots stays a master. A replica is in sync at once, and
/// replaces its master however long the link to the master was down.
const ARGUMENTS: [&str; 14] = [
    "--save",
    "",
    "--appendonly",
    "no",
    "--cluster-node-timeout",
    "2000",
    "--cluster-require-full-coverage",
    "no",
    "--cluster-allow-replica-migration",
    "no",
    "--repl-diskless-sync-delay",
    "0",
    "--cluster-replica-validity-factor",
    "0",
];

/// A running cluster. Dropping it kills the processes.
pub struct RedisCluster {
    nodes: Vec<Node>,
}

struct Node {
    server: RedisServer,
    /// The name of the node in the cluster.
    id: String,
    /// Whether the process is killed or frozen.
    silent: AtomicBool,
    /// When the node last won an election.
    elected: Mutex<Option<Instant>>,
}

impl Node {
    async fn start() -> Self {
        let server = RedisServer::start_in_cluster(&ARGUMENTS).await;
        let id = server.command(&["CLUSTER", "MYID"]).await;
        Self {
            server,
            id,
            silent: AtomicBool::new(false),
            elected: Mutex::default(),
        }
    }

    fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }
}

impl RedisCluster {
    /// Starts a cluster, and waits until all nodes agree and all replicas are in sync. Runs quietly, because nodes that
    /// do not answer in time are failed over.
    pub async fn start() -> Self {
        run_quietly();
        let mut nodes = Vec::new();
        for _ in 0..2 * MASTERS {
            nodes.push(Node::start().await);
        }
        let cluster = Self { nodes };
        for (number, node) in cluster.nodes[..MASTERS].iter().enumerate() {
            let first = (number * SLOTS / MASTERS).to_string();
            let last = ((number + 1) * SLOTS / MASTERS - 1).to_string();
            let slots = ["CLUSTER", "ADDSLOTSRANGE", &first, &last];
            node.server.command::<()>(&slots).await;
        }
        for (number, node) in cluster.nodes.iter().enumerate() {
            let epoch = (number + 1).to_string();
            let epoch = ["CLUSTER", "SET-CONFIG-EPOCH", &epoch];
            node.server.command::<()>(&epoch).await;
        }
        for number in 1..cluster.nodes.len() {
            cluster.introduce(number).await;
        }
        for (number, replica) in cluster.nodes[MASTERS..].iter().enumerate() {
            let follow = ["CLUSTER", "REPLICATE", &cluster.nodes[number].id];
            eventually_true("a replica knows its master", async || {
                replica.server.try_command::<()>(&follow).await.is_ok()
            })
            .await;
        }
        cluster.agreed().await;
        for replica in &cluster.nodes[MASTERS..] {
            replica.server.has_caught_up().await;
        }
        cluster
    }

    /// Introduces the node to the nodes with lower numbers.
    async fn introduce(&self, number: usize) {
        let node = &self.nodes[number];
        let (port, bus) = (node.server.port().to_string(), node.server.bus_port());
        for other in &self.nodes[..number] {
            if !other.is_silent() {
                let meet = ["CLUSTER", "MEET", "127.0.0.1", &port, &bus];
                other.server.command::<()>(&meet).await;
            }
        }
    }

    /// The value for `REDIS_URL`: the first three nodes.
    pub fn url(&self) -> String {
        self.url_of(&[0, 1, 2])
    }

    /// The value for `REDIS_URL` that names only some nodes.
    pub fn url_of(&self, nodes: &[usize]) -> String {
        let hosts = nodes.iter().map(|node| self.node(*node).port());
        let hosts: Vec<_> = hosts.map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+cluster://{}/", hosts.join(","))
    }

    /// The server of a node.
    pub fn node(&self, node: usize) -> &RedisServer {
        &self.nodes[node].server
    }

    /// The nodes with slots, in order.
    pub async fn masters(&self) -> Vec<usize> {
        let owners = self.view().await.owners;
        let mut masters: Vec<_> = owners.into_iter().flatten().collect();
        masters.sort_unstable();
        masters.dedup();
        masters
    }

    /// The master of a slot.
    pub async fn master_of_slot(&self, slot: u16) -> usize {
        let owner = self.view().await.owners[usize::from(slot)];
        owner.expect("a slot with a master")
    }

    /// The master of the keys of a user.
    pub async fn master_of(&self, names: &Names, user: &str) -> usize {
        let slot = names.slot(names.partition_of(user));
        self.master_of_slot(slot).await
    }

    /// The partitions of a master.
    pub async fn partitions_of(&self, names: &Names, master: usize) -> Vec<usize> {
        let owners = self.view().await.owners;
        let owner = |partition: &usize| owners[usize::from(names.slot(*partition))];
        let partitions = 0..names.partitions();
        partitions
            .filter(|partition| owner(partition) == Some(master))
            .collect()
    }

    /// The other node of a pair: the replica of a master, or the master of a replica.
    pub fn partner_of(&self, node: usize) -> usize {
        assert!(node < 2 * MASTERS, "an added node has no partner");
        (node + MASTERS) % (2 * MASTERS)
    }

    /// The sum of the replies to `command` for the key `name` of each partition, with `more` after the key.
    pub async fn sum(&self, names: &Names, command: &str, name: &str, more: &[&str]) -> u64 {
        let owners = self.view().await.owners;
        let mut keys = BTreeMap::<usize, Vec<String>>::new();
        for (partition, key) in names.all(name).into_iter().enumerate() {
            let owner = owners[usize::from(names.slot(partition))];
            keys.entry(owner.expect("a master")).or_default().push(key);
        }
        let mut sum = 0;
        for (master, keys) in keys {
            sum += self.node(master).sum(command, &keys, more).await;
        }
        sum
    }

    /// Runs a command about a user at the master of the user.
    pub async fn command<T: FromRedisValue>(&self, names: &Names, user: &str, words: &[&str]) -> T {
        let master = self.master_of(names, user).await;
        self.node(master).command(words).await
    }

    /// Waits until all nodes that are not silent know the same masters of all slots and the same replicas, and accept
    /// calls.
    pub async fn agreed(&self) {
        eventually_true("the nodes agree", async || self.agreement().await.is_some()).await;
    }

    /// The common view of all nodes that are not silent.
    async fn agreement(&self) -> Option<View> {
        let mut common: Option<View> = None;
        for node in self.nodes.iter().filter(|node| !node.is_silent()) {
            let view = self.view_of(node).await?;
            if *common.get_or_insert_with(|| view.clone()) != view {
                return None;
            }
            let state: String = node.server.try_command(&["CLUSTER", "INFO"]).await.ok()?;
            if !state.contains("cluster_state:ok") {
                return None;
            }
        }
        common.filter(|view| view.known == self.nodes.len())
    }

    /// The view on which all nodes agree.
    async fn view(&self) -> View {
        eventually("the nodes agree", async || self.agreement().await).await
    }

    async fn view_of(&self, node: &Node) -> Option<View> {
        let nodes: String = node.server.try_command(&["CLUSTER", "NODES"]).await.ok()?;
        let number = |id: &str| self.nodes.iter().position(|node| node.id == id);
        View::read(&nodes, number)
    }
}
