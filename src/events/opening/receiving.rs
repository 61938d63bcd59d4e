//! Waits until this instance has received events that the store holds.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Opener;
use super::retry::{JOIN_TIMEOUT, RECEIVE_TIMEOUT, retry_until_timeout};
use crate::events::hub::Hub;
use crate::events::hub::join::CursorOrigin;
use crate::events::sse::cursor::Cursor;
use crate::events::sse::payload::ResetReason;
use crate::model::{PartitionSet, Position};
use crate::store::StoreError;

impl Opener {
    /// Waits until this instance has received the events that the store held at `requested_at`, so that
    /// `presence.ready` is not sent too early. The wait is short: a stream also resumes while the
    /// store is unreachable.
    pub(super) async fn receive_stored_events(
        &self,
        requested_at: Instant,
        watched: &PartitionSet,
    ) {
        let received = async {
            let Ok(stored) = self.newest.since(requested_at, watched).await else {
                return;
            };
            let has_received =
                |hub: &Hub| hub.has_received(&stored, watched) || !hub.has_data_set_of(&stored);
            self.hub.wait_until(has_received).await;
        };
        let _ = timeout(RECEIVE_TIMEOUT, received).await;
    }

    /// Waits until this instance has received the events at `cursor`. Returns a reason if the store
    /// does not hold them.
    pub(super) async fn wait_for_bus(
        &self,
        cursor: &Cursor,
        origin: CursorOrigin,
        watched: &PartitionSet,
    ) -> Result<Option<ResetReason>, StoreError> {
        let stored = retry_until_timeout(|| self.newest.read(watched)).await?;
        if stored.epoch() != cursor.epoch() {
            return Ok(Some(ResetReason::DataLost));
        }
        let mut partitions = watched.iter();
        if let Some(lost) = partitions.find(|each| stored.position(*each) < cursor.position(*each))
        {
            // A data set without an event has begun, or the last events were lost.
            let is_new = stored.epoch().is_none() && stored.position(lost) == Position::START;
            return Ok(Some(match origin {
                _ if is_new => ResetReason::DataLost,
                CursorOrigin::Server => ResetReason::HistoryGone,
                CursorOrigin::Client | CursorOrigin::Page => ResetReason::UnknownCursor,
            }));
        }
        // After this time the caller reads the newest position of the store again.
        self.receives(cursor, watched, JOIN_TIMEOUT).await;
        Ok(None)
    }

    /// Waits until this instance has received the events at `cursor`. Returns false after `limit`.
    pub(super) async fn receives(
        &self,
        cursor: &Cursor,
        watched: &PartitionSet,
        limit: Duration,
    ) -> bool {
        let has_received = |hub: &Hub| hub.has_received(cursor, watched);
        self.hub.wait_for(limit, has_received).await
    }
}
