//! Reads the subscription to one server.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::follower::Inbox;
use crate::events::doorbell::Doorbell;
use crate::model::PartitionSet;
use crate::store::{Backoff, NodeId, Signal, Store, Subscription};
use crate::telemetry::WarningPace;

/// The time between two warnings of a lost subscription.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Passes the signals of one server to the followers of its partitions.
#[derive(Debug)]
pub(super) struct SubscriptionReader {
    pub(super) node: NodeId,
    pub(super) store: Arc<Store>,
    pub(super) inboxes: Arc<[Inbox]>,
    pub(super) doorbell: Arc<Doorbell>,
    /// Partitions whose subscription may be silent.
    pub(super) requests: watch::Receiver<PartitionSet>,
    pub(super) warnings: WarningPace,
}

impl SubscriptionReader {
    /// Subscribes again after each lost subscription.
    pub(super) async fn run(mut self) {
        loop {
            let mut subscription = self.store.subscribe(self.node).await;
            self.pass_on(&mut subscription).await;
            sleep(Backoff::default().next()).await;
        }
    }

    /// Passes signals on until the subscription is lost, or may be silent.
    async fn pass_on(&mut self, subscription: &mut Subscription) {
        loop {
            tokio::select! {
                signal = subscription.next() => match signal {
                    Some(signal) => self.pass(signal).await,
                    None => {
                        self.note_lost();
                        return;
                    }
                },
                requested = self.requests.changed() => {
                    let silent = *self.requests.borrow_and_update();
                    let own = self.store.partitions_on(self.node);
                    if requested.is_err() || silent.iter().any(|each| own.contains(each)) {
                        warn!("bus: events and history differ, subscribing again");
                        return;
                    }
                }
            }
        }
    }

    /// Warns at most once per [`WARNING_INTERVAL`], because each slot that moves restarts the subscription.
    fn note_lost(&mut self) {
        let node = self.store.address_of(self.node);
        if self.warnings.permits(WARNING_INTERVAL) {
            warn!(node, "bus: subscription lost");
        } else {
            debug!(node, "bus: subscription lost");
        }
    }

    async fn pass(&self, signal: Signal) {
        match signal {
            Signal::Entries(partition, epoch, entries) => {
                self.store.note_message(partition);
                let inbox = &self.inboxes[partition.index()];
                if self.inboxes.len() == 1 {
                    // Messages that do not fit wait in the server.
                    inbox.send((epoch, entries)).await;
                } else {
                    // A slow partition does not stop the others.
                    inbox.try_send((epoch, entries));
                }
            }
            Signal::Changed(partition) => {
                self.store.note_message(partition);
                self.inboxes[partition.index()].changed();
            }
            Signal::Nearer(partition) => self.store.note_message(partition),
            Signal::Moving => self.store.note_move(),
            Signal::Expired(partition) => self.doorbell.ring(partition),
        }
    }
}
