//! The request for a new view of the cluster.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::node_id::NodeId;

/// Asks the task that follows the cluster for a new view. Whatever notices a sign of a change calls this.
#[derive(Debug, Default)]
pub(in crate::store::redis) struct Refresh {
    asked: Notify,
    suspect: Mutex<Option<NodeId>>,
}

impl Refresh {
    /// Asks for a new view, which should not come from `suspect`, a node that failed.
    pub(in crate::store::redis) fn ask(&self, suspect: Option<NodeId>) {
        if suspect.is_some() {
            *self.suspect.lock() = suspect;
        }
        self.asked.notify_one();
    }

    /// Waits until a view is requested. Returns at once if one was requested since the last wait.
    pub(in crate::store::redis) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Returns the node that failed last, and clears it.
    pub(in crate::store::redis) fn take_suspect(&self) -> Option<NodeId> {
        self.suspect.lock().take()
    }
}
