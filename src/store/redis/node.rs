//! A Redis server: the only one, or a master of a cluster.

pub(super) mod clock;
pub(super) mod load_shedder;
pub(super) mod pulse;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use self::clock::Clock;
use self::load_shedder::LoadShedder;
use self::pulse::Pulse;
use super::cluster::node_address::NodeAddress;
use super::cluster::refresh::Refresh;
use super::cluster::table::InCluster;
use super::connection::{Channels, Checkout, Endpoint, Role, SupervisedConnection};
use super::format::layout::Layout;
use crate::config::KeyspaceEvents;
use crate::model::PartitionSet;
use crate::store::error::StoreError;
use crate::store::node_id::NodeId;

/// How long after the process stood still a call does not wait for the pause between two attempts to connect.
const JUST_RESUMED: Duration = Duration::from_millis(100);

/// What all threads of this instance share about one server.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    address: NodeAddress,
    pub(super) main: Arc<SupervisedConnection>,
    pub(super) subscription: Arc<SupervisedConnection>,
    pub(super) load_shedder: LoadShedder,
    pub(super) clock: Clock,
    /// The partitions on this server.
    served: watch::Sender<PartitionSet>,
    refresh: Arc<Refresh>,
    pulse: Arc<Pulse>,
    used_at: Mutex<Instant>,
}

/// What all nodes have in common.
#[derive(Debug)]
pub(super) struct NodeSettings {
    pub(super) layout: Arc<Layout>,
    /// The channel of the events of each partition, in order.
    pub(super) bus: Arc<[String]>,
    pub(super) keyspace_events: KeyspaceEvents,
    pub(super) refresh: Arc<Refresh>,
    pub(super) pulse: Arc<Pulse>,
}

impl Node {
    /// A node at `endpoint` without partitions. It is not connected until it is supervised.
    pub(super) fn new(
        id: NodeId,
        address: NodeAddress,
        endpoint: Endpoint,
        load_shedder: LoadShedder,
        settings: &NodeSettings,
    ) -> Self {
        let served = watch::Sender::new(PartitionSet::default());
        let channels = Channels {
            bus: Arc::clone(&settings.bus),
            served: served.subscribe(),
            refresh: Arc::clone(&settings.refresh),
            database: endpoint.database(),
            keyspace_events: settings.keyspace_events,
        };
        let main = Arc::new(SupervisedConnection::new(Role::Main(
            Box::new(endpoint),
            Arc::clone(&settings.layout),
            served.subscribe(),
        )));
        let subscription = Role::Subscription(Arc::clone(&main), channels);
        Self {
            id,
            address,
            main,
            subscription: Arc::new(SupervisedConnection::new(subscription)),
            load_shedder,
            clock: Clock::default(),
            served,
            refresh: Arc::clone(&settings.refresh),
            pulse: Arc::clone(&settings.pulse),
            used_at: Mutex::new(Instant::now()),
        }
    }

    /// The host of the node; empty without a cluster.
    pub(super) fn host(&self) -> &str {
        &self.address.host
    }

    /// A socket of the main connection. Waits for it if it broke just now, or before the process stood still.
    pub(super) async fn checkout_soon(&self) -> Result<Checkout<'_>, StoreError> {
        if let Some(checkout) = self.main.checkout() {
            return Ok(checkout);
        }
        let resumed = self.pulse.resumed().map(Instant::from_std);
        if resumed.is_some_and(|resumed| resumed.elapsed() < JUST_RESUMED) {
            // The attempts before and during the pause say nothing about the server now.
            self.main.hurry();
        }
        self.main.checkout_soon(resumed).await
    }

    /// The address of a node of a cluster.
    pub(super) fn address_in_cluster(&self) -> Option<&NodeAddress> {
        (self.address != NodeAddress::default()).then_some(&self.address)
    }

    /// The partitions on this server.
    pub(super) fn served(&self) -> PartitionSet {
        *self.served.borrow()
    }

    /// Takes the partitions that are on this server from now on.
    pub(super) fn serve(&self, partitions: PartitionSet) {
        if !partitions.is_empty() {
            self.note_use();
            if self.served().is_empty() {
                // A replica that has become the master was refused until now.
                self.main.hurry();
            }
        }
        self.served.send_if_modified(|served| {
            let changed = *served != partitions;
            *served = partitions;
            changed
        });
    }

    /// Notes that the node is needed, so that it stays for a while also without partitions.
    pub(super) fn note_use(&self) {
        *self.used_at.lock() = Instant::now();
    }

    /// Keeps the connections that all threads share open, for as long as it is polled. Asks for a new view of the
    /// cluster when the main connection is lost.
    pub(super) async fn supervise(&self) {
        let report = async {
            loop {
                self.main.opened().await;
                self.main.lost_now().await;
                self.refresh.ask(Some(self.id));
            }
        };
        tokio::join!(self.main.supervise(), self.subscription.supervise(), report);
    }

    /// Why the server does not fit the settings, if that is why a connection is down.
    pub(super) fn unfit(&self) -> Option<StoreError> {
        self.main.unfit().or(self.subscription.unfit())
    }

    /// Closes the connections of a node that left the cluster.
    pub(super) fn retire(&self) {
        for connection in [&self.main, &self.subscription] {
            connection.close_now(left_the_cluster());
        }
    }
}

/// The error of calls over the connections of a node that left the cluster.
pub(super) fn left_the_cluster() -> StoreError {
    StoreError::Unreachable("the node left the cluster".to_owned())
}

impl InCluster for Arc<Node> {
    fn address(&self) -> &NodeAddress {
        &self.address
    }

    fn used_at(&self) -> Instant {
        *self.used_at.lock()
    }
}
