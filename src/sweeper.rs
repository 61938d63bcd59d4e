//! The sweeper of an instance.

mod group_writes;
mod node_sweeper;
mod quiet_time;
mod shared;

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

use self::group_writes::finish_group_writes;
use self::node_sweeper::NodeSweeper;
use self::shared::Shared;
use crate::events::{Doorbell, Hub};
use crate::presence::Answering;
use crate::store::{NodeId, Store};
use crate::telemetry::Metrics;

/// Sweeps whenever a user is due. A partition in which something happens is swept at least once per
/// [`SWEEP_HEARTBEAT`](crate::store::SWEEP_HEARTBEAT); a quiet one only when a user is due. The
/// partitions of each server are swept apart from the others, so that a server that does not answer delays no other.
#[derive(Debug)]
pub(crate) struct Sweeper(Arc<Shared>);

impl Sweeper {
    /// A sweeper of `store`. `answering` tells whether the store answers calls now. While users are due, at most about
    /// `interval` passes between two sweeps.
    pub(crate) fn new(
        store: Arc<Store>,
        hub: Arc<Hub>,
        doorbell: Arc<Doorbell>,
        metrics: Arc<Metrics>,
        answering: Answering,
        interval: Duration,
    ) -> Self {
        let shared = Shared::new(store, hub, doorbell, metrics, answering, interval);
        Self(Arc::new(shared))
    }

    /// Sweeps for as long as it is polled.
    pub(crate) async fn run(self) {
        let mut nodes = self.0.store.nodes();
        let mut sweepers = JoinSet::new();
        let mut running: HashMap<NodeId, AbortHandle> = HashMap::new();
        sweepers.spawn(finish_group_writes(Arc::clone(&self.0.store)));
        loop {
            let current = Arc::clone(&nodes.borrow_and_update());
            running.retain(|node, sweeper| {
                let stays = current.contains(node);
                if !stays {
                    sweeper.abort();
                }
                stays
            });
            for node in current.iter().copied() {
                running.entry(node).or_insert_with(|| {
                    sweepers.spawn(NodeSweeper::new(Arc::clone(&self.0), node).run())
                });
            }
            let changed = async {
                if nodes.changed().await.is_err() {
                    // The servers never change.
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = changed => {}
                Some(Err(ended)) = sweepers.join_next() => if ended.is_panic() {
                    resume_unwind(ended.into_panic());
                },
            }
        }
    }
}
