//! Resets the streams after partitions restarted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::events::hub::Hub;
use crate::events::opening::Opener;
use crate::model::Partitions;

/// The partitions of a server that lost its data restart one after the other. A stream that watches several of them
/// gets one reset: when none restarted for this time, or at the latest after [`MOST_GATHERED`].
const GATHERED: Duration = Duration::from_millis(300);
const MOST_GATHERED: Duration = Duration::from_secs(1);

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
                let began = Instant::now();
                let more = || timeout(GATHERED, self.requested.notified());
                while more().await.is_ok() && began.elapsed() < MOST_GATHERED {}
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
