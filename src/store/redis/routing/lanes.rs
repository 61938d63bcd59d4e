//! The lanes of one worker: one to each node.

use std::sync::Arc;

use tokio::sync::watch;

use super::lane::Lane;
use super::supervision::each_node;
use super::topology::Topology;
use crate::model::Partition;
use crate::store::error::StoreError;
use crate::store::redis::cluster::node_address::NodeAddress;
use crate::store::redis::cluster::table::Table;
use crate::store::redis::node::Node;

/// What one worker has for each node.
#[derive(Debug)]
pub(in crate::store::redis) struct Lanes {
    pub(in crate::store::redis) topology: Arc<Topology>,
    own_connections: bool,
    lanes: Current,
}

#[derive(Debug)]
enum Current {
    /// The lanes to the only server.
    Fixed(Arc<Table<Arc<Lane>>>),
    /// The lanes to a cluster.
    Moving(watch::Sender<Arc<Table<Arc<Lane>>>>),
}

impl Lanes {
    /// Lanes over the main connections of the nodes.
    pub(in crate::store::redis) fn new(topology: &Arc<Topology>) -> Self {
        Self::open(topology, false)
    }

    /// Lanes to the same nodes with connections of their own, which have to be supervised.
    pub(in crate::store::redis) fn with_own_connections(&self) -> Self {
        Self::open(&self.topology, true)
    }

    fn open(topology: &Arc<Topology>, own_connections: bool) -> Self {
        let lane = |node: &Arc<Node>| Arc::new(Lane::new(node, own_connections));
        let table = topology.table().map(lane);
        let table = Arc::new(table);
        let lanes = if topology.is_cluster() {
            Current::Moving(watch::Sender::new(table))
        } else {
            Current::Fixed(table)
        };
        Self {
            topology: Arc::clone(topology),
            own_connections,
            lanes,
        }
    }

    /// Keeps the connections of the worker open, or the shared connections if the worker has none, for as long as it is
    /// polled.
    pub(in crate::store::redis) async fn supervise(&self) {
        let workers = async {
            match &self.lanes {
                Current::Fixed(table) => {
                    let lanes = table.nodes().iter().map(|lane| lane.supervise());
                    futures_util::future::join_all(lanes).await;
                }
                Current::Moving(tables) => {
                    let supervise = |lane: Arc<Lane>| async move { lane.supervise().await };
                    tokio::join!(
                        self.follow(tables),
                        each_node(tables.subscribe(), |lane| lane.node.id, supervise)
                    );
                }
            }
        };
        if self.own_connections {
            workers.await;
        } else {
            tokio::join!(workers, self.topology.supervise());
        }
    }

    /// Follows the table of the nodes.
    async fn follow(&self, lanes: &watch::Sender<Arc<Table<Arc<Lane>>>>) {
        let mut nodes = self.topology.tables();
        loop {
            nodes.borrow_and_update();
            self.update(lanes);
            if nodes.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Applies the table of the nodes. Existing lanes are kept.
    fn update(&self, lanes: &watch::Sender<Arc<Table<Arc<Lane>>>>) {
        lanes.send_if_modified(|lanes| {
            let next = self.topology.table().map(|node| {
                let known = lanes.nodes().iter().find(|lane| lane.node.id == node.id);
                known
                    .cloned()
                    .unwrap_or_else(|| Arc::new(Lane::new(node, self.own_connections)))
            });
            let gone =
                |lane: &&Arc<Lane>| !next.nodes().iter().any(|each| each.node.id == lane.node.id);
            lanes
                .nodes()
                .iter()
                .filter(gone)
                .for_each(|lane| lane.retire());
            let changed = !lanes.is_same(&next, |one, other| one.node.id == other.node.id);
            if changed {
                *lanes = Arc::new(next);
            }
            changed
        });
    }

    /// Fails if too many calls wait for the node of `partition`. `uncounted` calls wait in addition to the counted
    /// ones.
    pub(in crate::store::redis) fn check_room(
        &self,
        partition: Partition,
        uncounted: usize,
    ) -> Result<(), StoreError> {
        let checked = self.with_node(partition, |node| node.load_shedder.check_room(uncounted));
        checked.unwrap_or_else(|| Err(self.topology.why_unserved()))
    }

    /// What `read` reads of the node of `partition`; `None` if no master serves the partition. Takes no lock without a
    /// cluster.
    pub(in crate::store::redis) fn with_node<T>(
        &self,
        partition: Partition,
        read: impl FnOnce(&Node) -> T,
    ) -> Option<T> {
        match &self.lanes {
            Current::Fixed(table) => table.owner(partition).map(|lane| read(&lane.node)),
            Current::Moving(table) => table.borrow().owner(partition).map(|lane| read(&lane.node)),
        }
    }

    /// The lane to the node of `partition`. Fails if no master serves the partition.
    pub(in crate::store::redis) fn of(
        &self,
        partition: Partition,
    ) -> Result<Arc<Lane>, StoreError> {
        let lane = match &self.lanes {
            Current::Fixed(table) => table.owner(partition).cloned(),
            Current::Moving(table) => table.borrow().owner(partition).cloned(),
        };
        lane.ok_or_else(|| self.topology.why_unserved())
    }

    /// Records the permanent redirection (`MOVED`) of `slot` to the node at `address`.
    pub(in crate::store::redis) fn redirect(&self, slot: u16, address: &NodeAddress) {
        self.topology.redirect(slot, address);
        if let Current::Moving(lanes) = &self.lanes {
            self.update(lanes);
        }
    }

    /// The lane to the node at `address`, which may have no partition.
    pub(in crate::store::redis) fn at(&self, address: &NodeAddress) -> Option<Arc<Lane>> {
        let node = self.topology.node_at(address)?;
        let Current::Moving(lanes) = &self.lanes else {
            return None;
        };
        self.update(lanes);
        let table = lanes.borrow();
        let mut lanes = table.nodes().iter();
        lanes.find(|lane| lane.node.id == node.id).cloned()
    }
}
