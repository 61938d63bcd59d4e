//! Follows the histories of the store, and writes every event into the hub: the events of each partition in order and
//! without a gap.

mod fill;
mod follower;
mod joined;
mod reads;
mod resets;
mod subscription_reader;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use self::fill::FirstFill;
use self::follower::{Follower, Inbox};
use self::reads::Reads;
use self::resets::Resets;
use self::subscription_reader::SubscriptionReader;
use super::doorbell::Doorbell;
use super::hub::Hub;
use super::stream_service::StreamService;
use crate::model::PartitionSet;
use crate::store::{NodeId, Store};
use crate::telemetry::{Metrics, WarningPace};

/// The only writer of the hub.
#[derive(Debug)]
pub(crate) struct Bus {
    store: Arc<Store>,
    hub: Arc<Hub>,
    streams: Arc<StreamService>,
    doorbell: Arc<Doorbell>,
    metrics: Arc<Metrics>,
}

impl Bus {
    /// Returns a bus from `store` to `hub`.
    pub(crate) fn new(
        store: Arc<Store>,
        hub: Arc<Hub>,
        streams: Arc<StreamService>,
        doorbell: Arc<Doorbell>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            hub,
            streams,
            doorbell,
            metrics,
        }
    }

    /// Follows the store until the future is dropped: each server with a reader, and each partition with a follower.
    pub(crate) async fn run(self) {
        let mut tasks = JoinSet::new();
        let resets = Arc::new(Resets::default());
        let (filled, first_fill) = mpsc::channel(self.store.partitions().count());
        tasks.spawn(FirstFill::new(Arc::clone(&self.hub), first_fill).run());
        let opener = Arc::clone(self.streams.opener());
        tasks.spawn(Arc::clone(&opener).run_regroups());
        tasks.spawn(Arc::clone(&resets).run(Arc::clone(&self.hub), opener));
        let reads = Arc::new(Reads::new(Arc::clone(&self.store)));
        let mut inboxes = Vec::new();
        for partition in self.store.partitions().all() {
            let (inbox, signals) = Inbox::new();
            let follower = Follower {
                partition,
                reads: Arc::clone(&reads),
                hub: Arc::clone(&self.hub),
                resets: Arc::clone(&resets),
                metrics: Arc::clone(&self.metrics),
                filled: filled.clone(),
            };
            tasks.spawn(follower.run(signals));
            inboxes.push(inbox);
        }
        self.run_readers(inboxes.into(), tasks).await;
    }

    /// Keeps one reader for each server, and answers the requests to subscribe again.
    async fn run_readers(&self, inboxes: Arc<[Inbox]>, mut tasks: JoinSet<()>) {
        let mut nodes = self.store.nodes();
        let (resubscribe, requests) = watch::channel(PartitionSet::default());
        let mut readers: HashMap<NodeId, AbortHandle> = HashMap::new();
        loop {
            let current = Arc::clone(&nodes.borrow_and_update());
            readers.retain(|node, reader| {
                let is_current = current.contains(node);
                if !is_current {
                    reader.abort();
                }
                is_current
            });
            for node in current.iter() {
                readers.entry(*node).or_insert_with(|| {
                    let reader = SubscriptionReader {
                        node: *node,
                        store: Arc::clone(&self.store),
                        inboxes: Arc::clone(&inboxes),
                        doorbell: Arc::clone(&self.doorbell),
                        requests: requests.clone(),
                        warnings: WarningPace::new(),
                    };
                    tasks.spawn(reader.run())
                });
            }
            tokio::select! {
                Ok(()) = nodes.changed() => {}
                partitions = self.hub.resync_requested() => {
                    // The readers notice it even if the value is the same.
                    resubscribe.send_replace(partitions);
                    partitions.iter().for_each(|each| inboxes[each.index()].changed());
                }
                // No task but the reader of a server that has gone ends without a defect.
                Some(ended) = tasks.join_next() => match ended {
                    Err(error) if error.is_cancelled() => {}
                    _ => return,
                },
            }
        }
    }
}
