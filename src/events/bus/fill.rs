//! Fills the hub with the recent events at a start.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::info;

use super::reads::{READ_EVENTS, Reads};
use crate::events::hub::Hub;
use crate::events::hub::kept::{Bounds, Filled};
use crate::model::{Entry, Partition};
use crate::store::StoreError;

/// The pause between two reads of a history.
const PAUSE: Duration = Duration::from_millis(1);

/// Time limit for reading a history. Older events are left out, so that a start ends in time.
const LIMIT: Duration = Duration::from_secs(4);

/// How long a start waits for the slowest partition after the first one.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the recent events of a partition backwards, in small steps, until they exceed the bounds.
pub(super) async fn read(
    reads: &Reads,
    partition: Partition,
    bounds: Bounds,
    on_answer: impl FnOnce(),
) -> Result<Filled, StoreError> {
    let began = Instant::now();
    let mut page = reads.before(partition, None).await?;
    on_answer();
    let mut filled = Filled::until(partition, page.epoch, page.newest);
    loop {
        for entry in &page.entries {
            // After a missing entry, older entries are useless for a resume.
            let is_next = entry.position() == filled.floor;
            if !is_next || filled.is_full_at(reads.now(partition), bounds) {
                return Ok(filled);
            }
            filled.prepend(entry);
        }
        let is_last = page.entries.len() < READ_EVENTS;
        if is_last || page.epoch != filled.epoch || began.elapsed() > LIMIT {
            return Ok(filled);
        }
        // Pings need the store as well.
        sleep(PAUSE).await;
        let oldest = page.entries.last().map(Entry::position);
        page = reads.before(partition, oldest).await?;
    }
}

/// Puts the partitions into the hub: all that were read within a few seconds together, in the order of their events,
/// and each later one when it was read.
#[derive(Debug)]
pub(super) struct FirstFill {
    hub: Arc<Hub>,
    filled: mpsc::Receiver<Filled>,
}

impl FirstFill {
    pub(super) fn new(hub: Arc<Hub>, filled: mpsc::Receiver<Filled>) -> Self {
        Self { hub, filled }
    }

    pub(super) async fn run(mut self) {
        let mut together = Vec::new();
        together.extend(self.filled.recv().await);
        let deadline = Instant::now() + TIMEOUT;
        while together.len() < self.hub.partitions().count()
            && let Ok(Some(filled)) = timeout_at(deadline, self.filled.recv()).await
        {
            together.push(filled);
        }
        let partitions = together.len();
        self.hub.begin(together);
        info!(partitions, "bus: following the history");
        while let Some(filled) = self.filled.recv().await {
            self.hub.begin(vec![filled]);
        }
    }
}
