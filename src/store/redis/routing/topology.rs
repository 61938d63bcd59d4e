//! The nodes of the store, and which of them serves which partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use super::supervision::each_node;
use crate::model::{PartitionSet, Partitions};
use crate::store::error::StoreError;
use crate::store::node_id::NodeId;
use crate::store::redis::cluster::coverage::Coverage;
use crate::store::redis::cluster::node_address::NodeAddress;
use crate::store::redis::cluster::slots::{self, View};
use crate::store::redis::cluster::table::Table;
use crate::store::redis::connection::Endpoint;
use crate::store::redis::logged_causes::LoggedCauses;
use crate::store::redis::node::load_shedder::{LoadShedder, MAX_WAITING_IN_SILENCE};
use crate::store::redis::node::{Node, NodeSettings};

/// How long a view of the cluster is used without a sign of a change.
const VIEW_AGE: Duration = Duration::from_secs(15);

/// The same while a node does not answer, because a replica may replace it, and while no master serves some slots.
const VIEW_AGE_IN_TROUBLE: Duration = Duration::from_millis(500);

/// The shortest time between two reads of a view.
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// How long a node may take to return its view.
const VIEW_TIMEOUT: Duration = Duration::from_secs(2);

/// One view in this many is read over a new connection: the name of a managed cluster may resolve to other nodes only
/// after a reconnect (rueidis #384).
const FRESH_EVERY: u64 = 4;

/// How many views are compared if they lack slots.
const MOST_VIEWS: usize = 4;

/// How long a node without partitions stays connected.
const IDLE: Duration = Duration::from_secs(60);

/// The nodes of the store. The nodes of a cluster change; a single server stays.
#[derive(Debug)]
pub(in crate::store::redis) struct Topology {
    endpoint: Endpoint,
    settings: NodeSettings,
    /// How many calls wait for all nodes together, and how many may wait for one silent node.
    waiting: Arc<AtomicUsize>,
    silent_limit: usize,
    next_id: AtomicU32,
    table: watch::Sender<Arc<Table<Arc<Node>>>>,
    /// The nodes that serve a partition.
    serving: watch::Sender<Arc<[NodeId]>>,
    /// Held while the table changes.
    changing: Mutex<()>,
    coverage: Coverage,
}

impl Topology {
    /// The topology at `endpoint`. With a cluster, it has no node until it is supervised. `requests` is the number of
    /// requests that the instance can have at once.
    pub(in crate::store::redis) fn new(
        endpoint: Endpoint,
        partitions: Partitions,
        settings: NodeSettings,
        requests: usize,
    ) -> Self {
        let silent_limit = if endpoint.is_cluster() {
            // The users of the other nodes need requests too.
            MAX_WAITING_IN_SILENCE.min(requests / 4).max(1)
        } else {
            MAX_WAITING_IN_SILENCE
        };
        let topology = Self {
            settings,
            waiting: Arc::default(),
            silent_limit,
            next_id: AtomicU32::new(NodeId::ONLY.0),
            table: watch::Sender::new(Arc::new(Table::empty(partitions))),
            serving: watch::Sender::new([].into()),
            changing: Mutex::new(()),
            coverage: Coverage::new(partitions),
            endpoint,
        };
        if !topology.is_cluster() {
            let node = topology.open(&NodeAddress::default());
            topology.change(|_| Table::of_one(partitions, Arc::clone(&node)));
        }
        topology
    }

    /// Whether the servers are a cluster.
    pub(in crate::store::redis) fn is_cluster(&self) -> bool {
        self.endpoint.is_cluster()
    }

    /// The nodes now.
    pub(in crate::store::redis) fn table(&self) -> Arc<Table<Arc<Node>>> {
        Arc::clone(&self.table.borrow())
    }

    /// The nodes now, and later changes.
    pub(in crate::store::redis) fn tables(&self) -> watch::Receiver<Arc<Table<Arc<Node>>>> {
        self.table.subscribe()
    }

    /// The nodes that serve a partition now, and later changes.
    pub(in crate::store::redis) fn serving(&self) -> watch::Receiver<Arc<[NodeId]>> {
        self.serving.subscribe()
    }

    /// The node with this number.
    pub(in crate::store::redis) fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        let table = self.table.borrow();
        table.nodes().iter().find(|node| node.id == id).cloned()
    }

    /// Requests a new view of the cluster, from a node other than `suspect` if possible.
    pub(in crate::store::redis) fn refresh(&self, suspect: Option<NodeId>) {
        self.settings.refresh.ask(suspect);
    }

    /// Notes that a node refused a command because the whole cluster is down.
    pub(in crate::store::redis) fn note_down(&self) {
        self.coverage.note_down();
    }

    /// Why some partitions are not served; `None` if all are.
    pub(in crate::store::redis) fn lacking(&self) -> Option<String> {
        self.coverage.lacking()
    }

    /// Why a partition has no node.
    pub(in crate::store::redis) fn why_unserved(&self) -> StoreError {
        self.coverage.why_unserved()
    }

    /// Records that the node at `address` serves the partitions of `slot` now.
    pub(in crate::store::redis) fn redirect(&self, slot: u16, address: &NodeAddress) {
        if self.is_cluster() {
            self.change(|table| table.redirected(slot, address, |address| self.open(address)));
            self.refresh(None);
        }
    }

    /// The node at `address`. A node that is not known serves no partition yet. `None` without a cluster.
    pub(in crate::store::redis) fn node_at(&self, address: &NodeAddress) -> Option<Arc<Node>> {
        if !self.is_cluster() {
            return None;
        }
        self.change(|table| table.with_node(address, |address| self.open(address)));
        let table = self.table.borrow();
        let node = table.node_at(address).cloned();
        node.inspect(|node| node.note_use())
    }

    /// Follows the cluster and keeps the connections open that all threads share, for as long as it is polled.
    pub(in crate::store::redis) async fn supervise(&self) {
        let supervise = |node: Arc<Node>| async move { node.supervise().await };
        let nodes = each_node(self.tables(), |node| node.id, supervise);
        if self.is_cluster() {
            tokio::join!(nodes, self.follow());
        } else {
            nodes.await;
        }
    }

    async fn follow(&self) {
        let mut logged = LoggedCauses::default();
        for attempt in 0.. {
            let began = Instant::now();
            match self.view(attempt).await {
                Ok(view) => {
                    self.adopt(&view);
                    logged.clear();
                }
                Err(error) => {
                    let why = error.cause();
                    if logged.note(&why) {
                        warn!(role = "cluster", why, "redis unreachable");
                    }
                    self.coverage.note_failure(error);
                }
            }
            sleep_until(began + LEAST_PAUSE).await;
            let pause = if logged.is_empty() && self.is_well() {
                VIEW_AGE
            } else {
                VIEW_AGE_IN_TROUBLE
            };
            let _ = timeout(pause, self.settings.refresh.asked()).await;
        }
    }

    /// Whether a connected node serves each partition.
    pub(in crate::store::redis) fn is_well(&self) -> bool {
        if self.lacking().is_some() {
            return false;
        }
        let table = self.table();
        let mut serving = table
            .nodes()
            .iter()
            .filter(|node| !node.served().is_empty());
        serving.all(|node| node.main.is_up())
    }

    /// The newest view of the cluster: of a connected node, or else of a seed. A node that lost its place in the
    /// cluster has a view without slots, so a view that lacks slots is compared with those of some other nodes.
    async fn view(&self, attempt: u64) -> Result<View, StoreError> {
        let suspect = self.settings.refresh.take_suspect();
        let is_fresh = suspect.is_none() && attempt.is_multiple_of(FRESH_EVERY);
        let table = self.table();
        let mut nodes: Vec<_> = table
            .nodes()
            .iter()
            .filter(|node| Some(node.id) != suspect)
            .collect();
        fastrand::shuffle(&mut nodes);
        let mut views = Vec::new();
        if is_fresh {
            views.extend(self.views_of_seeds(attempt).await.unwrap_or_default());
        }
        for node in nodes {
            if views.len() >= MOST_VIEWS || views.iter().any(View::is_complete) {
                break;
            }
            views.extend(within(view_of_node(node)).await);
        }
        if views.is_empty() {
            views = self.views_of_seeds(attempt).await?;
        }
        let fullest = views.into_iter().min_by_key(View::lacking_slots);
        Ok(fullest.unwrap_or_default())
    }

    /// The views of the seeds, each over a new connection, up to the first one that lacks no slot.
    async fn views_of_seeds(&self, attempt: u64) -> Result<Vec<View>, StoreError> {
        let first = usize::try_from(attempt / FRESH_EVERY).unwrap_or_default();
        let request = slots::request();
        let (read, is_enough) = (slots::read, View::is_complete);
        let asked = self
            .endpoint
            .ask_seeds(first, VIEW_TIMEOUT, &request, read, is_enough);
        asked.await
    }

    fn adopt(&self, view: &View) {
        let now = Instant::now();
        let oldest_use = now.checked_sub(IDLE).unwrap_or(now);
        self.change(|table| table.next(view, oldest_use, |address| self.open(address)));
        self.coverage.note(view);
    }

    /// A node at `address`, which is not connected yet.
    fn open(&self, address: &NodeAddress) -> Arc<Node> {
        let id = NodeId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let endpoint = if self.is_cluster() {
            self.endpoint.at(address)
        } else {
            self.endpoint.clone()
        };
        let load_shedder = LoadShedder::new(&self.waiting, self.silent_limit);
        let address = address.clone();
        Arc::new(Node::new(
            id,
            address,
            endpoint,
            load_shedder,
            &self.settings,
        ))
    }

    fn change(&self, next: impl FnOnce(&Table<Arc<Node>>) -> Table<Arc<Node>>) {
        let _changing = self.changing.lock();
        let before = self.table();
        let after = next(&before);
        let is_in = |table: &Table<Arc<Node>>, id| table.nodes().iter().any(|node| node.id == id);
        for gone in before.nodes().iter().filter(|node| !is_in(&after, node.id)) {
            gone.serve(PartitionSet::default());
            gone.retire();
        }
        let mut serving = Vec::new();
        for (index, node) in after.nodes().iter().enumerate() {
            node.serve(after.partitions_of(index));
            if !node.served().is_empty() {
                serving.push(node.id);
            }
        }
        serving.sort_unstable();
        let is_same = before.is_same(&after, |one, other| one.id == other.id);
        if !is_same {
            self.table.send_replace(Arc::new(after));
        }
        self.serving.send_if_modified(|before| {
            let changed = **before != *serving;
            *before = serving.into();
            changed
        });
    }
}

async fn view_of_node(node: &Node) -> Result<View, StoreError> {
    let not_connected = || StoreError::Unreachable("it is not connected".to_owned());
    let mut checkout = node.main.checkout().ok_or_else(not_connected)?;
    let answer = slots::request().query_async(&mut checkout.socket).await;
    slots::read(answer.map_err(|error| checkout.failed(error))?, node.host())
}

async fn within<T>(view: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(VIEW_TIMEOUT, view)
        .await
        .unwrap_or_else(|_| Err(StoreError::too_slow()))
}
