//! Reads the histories of the store. Few reads run at a time, because the calls of clients need the store as well.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::model::{Announced, History, Partition, PartitionSet, Position, Timestamp, UserId};
use crate::store::{Backoff, Store, StoreError};

/// Events that one read of a history returns. Redis takes less than a millisecond for them.
pub(super) const READ_EVENTS: usize = 250;

/// Reads that run at a time.
const READS: usize = 4;

/// How long a read counts. The server of a longer read does not answer; the reads of other servers do not wait for it.
const COUNTED: Duration = Duration::from_millis(100);

/// Attempts to read a history before a follower begins again.
const ATTEMPTS: u32 = 5;

/// Reads of histories.
#[derive(Debug)]
pub(super) struct Reads {
    store: Arc<Store>,
    running: Semaphore,
    /// Partitions whose history cannot be read.
    failing: Mutex<PartitionSet>,
}

impl Reads {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            running: Semaphore::new(READS),
            failing: Mutex::default(),
        }
    }

    /// Notes whether the history of a partition could be read. Logs the first failure, and the end of all failures.
    pub(super) fn note(&self, partition: Partition, read: &Result<(), StoreError>) {
        let mut failing = self.failing.lock();
        match read {
            Err(error) => {
                if failing.is_empty() {
                    let partition = partition.index();
                    warn!(%error, partition, "bus: could not read the history");
                }
                failing.insert(partition);
            }
            Ok(()) if failing.contains(partition) => {
                failing.remove(partition);
                if failing.is_empty() {
                    info!("bus: following the history again");
                }
            }
            Ok(()) => {}
        }
    }

    /// Returns the time of the clock of a partition.
    pub(super) fn now(&self, partition: Partition) -> Timestamp {
        self.store.now(partition)
    }

    /// Reads at most `limit` events after a position.
    pub(super) async fn after(
        &self,
        partition: Partition,
        position: Position,
        limit: usize,
    ) -> Result<History, StoreError> {
        self.retry(|| self.store.history(partition, position, limit))
            .await
    }

    /// Reads events before a position, or the newest events.
    pub(super) async fn before(
        &self,
        partition: Partition,
        position: Option<Position>,
    ) -> Result<History, StoreError> {
        self.retry(|| self.store.history_before(partition, position, READ_EVENTS))
            .await
    }

    /// Reads which of these users are announced.
    pub(super) async fn announced_among(&self, users: &[UserId]) -> Result<Announced, StoreError> {
        self.store.announced_among(users).await
    }

    /// Repeats a read that fails.
    async fn retry<R>(&self, read: impl Fn() -> R) -> Result<History, StoreError>
    where
        R: Future<Output = Result<History, StoreError>>,
    {
        let mut backoff = Backoff::default();
        for _ in 1..ATTEMPTS {
            match self.count(read()).await {
                Err(_) => sleep(backoff.next()).await,
                found => return found,
            }
        }
        self.count(read()).await
    }

    /// Runs a read when few others run.
    async fn count<R: Future>(&self, read: R) -> R::Output {
        let mut read = pin!(read);
        // The semaphore is never closed.
        let permit = self.running.acquire().await.ok();
        match timeout(COUNTED, &mut read).await {
            Ok(found) => found,
            Err(_) => {
                drop(permit);
                read.await
            }
        }
    }
}
