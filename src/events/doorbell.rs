//! Wakes the sweeper when a key expired.

use tokio::sync::Notify;

/// Wakes the sweeper early. The doorbell decides nothing: the sweep finds the users that are due.
#[derive(Debug, Default)]
pub(crate) struct Doorbell(Notify);

impl Doorbell {
    /// Requests a sweep.
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for the next ring. Returns at once if the doorbell rang since the last wait.
    pub(crate) async fn rung(&self) {
        self.0.notified().await;
    }
}
