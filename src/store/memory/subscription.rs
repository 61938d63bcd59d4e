use tokio::sync::watch;

use crate::model::{Partition, Position};
use crate::store::signal::Signal;

/// A subscription to the changes of the embedded store.
#[derive(Debug)]
pub struct Subscription(watch::Receiver<Position>);

impl Subscription {
    /// The first signal is there at once: the history may have changed before.
    pub(super) fn of(changed: &watch::Sender<Position>) -> Self {
        let mut changes = changed.subscribe();
        changes.mark_changed();
        Self(changes)
    }

    pub(in crate::store) async fn next(&mut self) -> Option<Signal> {
        self.0.changed().await.ok()?;
        Some(Signal::Changed(Partition::FIRST))
    }
}
