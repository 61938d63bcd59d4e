//! What an instance does while nothing happens in a partition.

use super::Store;
use super::error::StoreError;
use super::node_id::NodeId;
use super::quiet::{Heard, Quiet};
use crate::model::{Partition, Timestamp};

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

    /// Writes until when this instance was ready to serve calls about each of some quiet partitions of one server. If
    /// asked, reads the newest position in the history of the one whose turn it is and the epochs of all, and the time.
    pub(crate) async fn beat(
        &self,
        covered: &[(Partition, Timestamp)],
        turn: Partition,
        looks: bool,
        asks_time: bool,
    ) -> Result<Heard, StoreError> {
        match self {
            Self::Memory(store) => Ok(Heard {
                newest: looks.then(|| store.history_before(None, 1).newest),
                epochs: None,
                time: asks_time.then(|| store.now()),
            }),
            Self::Redis(store) => store.beat(covered, turn, looks, asks_time).await,
        }
    }
}
