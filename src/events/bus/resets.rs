//! Resets the streams after partitions restarted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::warn;

use crate::events::hub::Hub;
use crate::events::opening::Opener;
use crate::model::Partitions;

/// How long restarts are gathered. The partitions of a server that was lost restart together, and a stream that watches
/// several of them gets one reset.
const GATHERED: Duration = Duration::from_millis(300);

/// Partitions restarted, and their streams must be reset.
#[derive(Debug, Default)]
pub(super) struct Resets {
    requested: Notify,
}

impl Resets {
    /// Resets the streams soon that watch the partitions which restarted.
    pub(super) fn request(&self) {
        self.requested.notify_one();
    }

    pub(super) async fn run(self: Arc<Self>, hub: Arc<Hub>, opener: Arc<Opener>) {
        loop {
            self.requested.notified().await;
            if hub.partitions() != Partitions::ONE {
                sleep(GATHERED).await;
            }
            if let Some(restarted) = hub.restarted() {
                warn!(
                    reason = restarted.reason.as_str(),
                    partitions = restarted.count(),
                    "bus: resetting the streams of restarted partitions"
                );
                opener.reset(&restarted).await;
            }
        }
    }
}
