//! Reads the newest position of the store, shared by all streams that need it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::events::hub::Hub;
use crate::events::shared_read::SharedRead;
use crate::events::sse::cursor::Cursor;
use crate::model::Partition;
use crate::store::{Store, StoreError};

/// How long one attempt waits for the bus to reset the streams.
const RESET_PATIENCE: Duration = Duration::from_secs(1);

/// Attempts to read a consistent position while the bus resets the streams.
const ATTEMPTS: u32 = 3;

/// Reads positions of the store that are consistent with the local history.
#[derive(Debug)]
pub(crate) struct NewestCursor {
    store: Arc<Store>,
    hub: Arc<Hub>,
    reads: SharedRead<(Instant, Cursor)>,
    /// The last result, and when its read began.
    last: Mutex<Option<(Instant, Cursor)>>,
}

impl NewestCursor {
    /// Returns a value without a result. Reads will run on `runtime`.
    pub(crate) fn new(store: Arc<Store>, hub: Arc<Hub>, runtime: Handle) -> Self {
        Self {
            store,
            hub,
            reads: SharedRead::new(runtime),
            last: Mutex::default(),
        }
    }

    /// Returns the newest cursor of the store. It may be newer than the local history.
    pub(crate) async fn read(&self) -> Result<Cursor, StoreError> {
        let read = || {
            let store = Arc::clone(&self.store);
            self.reads.ask(move || {
                let store = Arc::clone(&store);
                async move {
                    let began = Instant::now();
                    let (epoch, newest) = store.newest_of(Partition::FIRST).await?;
                    Ok((began, Cursor::at(epoch, newest)))
                }
            })
        };
        let (began, cursor) = self.read_consistently(read, |(_, cursor)| *cursor).await?;
        let mut last = self.last.lock();
        if last.is_none_or(|(before, _)| before < began) {
            *last = Some((began, cursor));
        }
        Ok(cursor)
    }

    /// Returns the newest cursor of the store as of `requested_at` or later. Thousands of clients
    /// that wait for admission share one read.
    pub(crate) async fn since(&self, requested_at: Instant) -> Result<Cursor, StoreError> {
        let last = *self.last.lock();
        if let Some((began, mut cursor)) = last
            && began >= requested_at
            && let Some((epoch, newest)) = self.hub.newest()
            && epoch == cursor.epoch
        {
            cursor.position = cursor.position.max(newest);
            return Ok(cursor);
        }
        self.read().await
    }

    /// Returns the result of `read` and checks its cursor. If the cursor is older than the
    /// local history, the store lost a part of its history. Then the bus resets the streams and the
    /// read is repeated, so that no stream begins in the lost history.
    pub(crate) async fn read_consistently<T, R>(
        &self,
        read: impl Fn() -> R,
        cursor: impl Fn(&T) -> Cursor,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        for _ in 0..ATTEMPTS {
            let before = self.hub.newest();
            let found = read().await?;
            let newest = cursor(&found);
            if !Hub::lost_history(before, (newest.epoch, newest.position)) {
                return Ok(found);
            }
            self.hub.request_resync();
            let is_reset = |hub: &Hub| hub.newest() != before;
            let _ = timeout(RESET_PATIENCE, self.hub.wait_until(is_reset)).await;
        }
        Err(StoreError::Unreachable(
            "the store lost a part of its history".to_owned(),
        ))
    }
}
