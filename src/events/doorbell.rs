//! The doorbell: the bus rings it when a key expired, and the sweeper wakes early.

use tokio::sync::Notify;

/// Wakes the sweeper early. A ring decides nothing: the sweep itself finds the users that are due.
#[derive(Debug, Default)]
pub struct Doorbell(Notify);

impl Doorbell {
    /// Asks for a sweep.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Resolves when the doorbell rings, or at once if it rang since the last time.
    pub(crate) async fn rung(&self) {
        self.0.notified().await;
    }
}
