//! What an instance does while nothing happens in a partition.

use super::Store;
use super::error::StoreError;
use super::node_id::NodeId;
use super::quiet::{Heard, Look, Quiet};
use crate::model::{Partition, PartitionSet, Timestamp};

impl Store {
    /// The quiet partitions. The embedded store has none: a look at it costs nothing.
    pub(crate) fn quiet(&self) -> Option<&Quiet> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => Some(store.quiet()),
        }
    }

    /// Whether calls wait for a server.
    pub(crate) fn is_serving(&self, node: NodeId) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Redis(store) => store.is_serving(node),
        }
    }

    /// Notes that a message about a partition arrived, so that it is swept soon: a user may be due earlier than known.
    pub(crate) fn note_message(&self, partition: Partition) {
        if let Some(quiet) = self.quiet() {
            quiet.note_news(partition);
            quiet.disturb(partition);
        }
    }

    /// Writes the time until which this instance was ready to serve calls about each of some quiet partitions of one
    /// server. A node of a cluster takes only the partition whose turn it is.
    pub(crate) async fn write_ready(
        &self,
        covered: &[(Partition, Timestamp)],
        turn: Partition,
    ) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.write_ready(covered, turn).await,
        }
    }

    /// Reads the epochs of some quiet partitions of one server, and what else is asked for. A node of a cluster is
    /// asked only about the partition whose turn it is.
    pub(crate) async fn look(
        &self,
        partitions: PartitionSet,
        turn: Partition,
        look: Look,
    ) -> Result<Heard, StoreError> {
        match self {
            Self::Memory(store) => Ok(Heard {
                epochs: Vec::new(),
                newest: look.newest.then(|| store.history_before(None, 1).newest),
                time: look.time.then(|| store.now()),
            }),
            Self::Redis(store) => store.look(partitions, turn, look).await,
        }
    }
}
