//! The limit on open client connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::telemetry::{OpenConnection, WarningPace};

/// The least time between two warnings that no connection can be accepted.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// The connections of one listener that may be open at the same time.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    max: u32,
    free: Arc<Semaphore>,
    warnings: WarningPace,
}

/// An open connection, which counts until this is dropped.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    pub(super) _permit: OwnedSemaphorePermit,
    pub(super) _counted: OpenConnection,
}

impl ConnectionLimit {
    pub(super) fn new(max: u32) -> Self {
        Self {
            max,
            free: Arc::new(Semaphore::new(max as usize)),
            warnings: WarningPace::new(),
        }
    }

    /// Waits until one more connection may be open. Meanwhile further connections wait in the queue of the kernel, not
    /// in this process.
    pub(super) async fn acquire(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// Returns a permit unless the limit is reached.
    pub(super) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Warns that no connection can be accepted, at most once per [`WARN_INTERVAL`].
    pub(super) fn warn(&mut self, why: &str) {
        if self.warnings.permits(WARN_INTERVAL) {
            warn!(why, "no connection can be accepted");
        }
    }

    /// Waits until all connections are closed.
    pub(super) async fn all_closed(&self) {
        let _ = self.free.acquire_many(self.max).await;
    }
}
