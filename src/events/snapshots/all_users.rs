//! Snapshots of all online users.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{spawn_blocking, yield_now};
use tokio::time::timeout;

use crate::events::hub::Hub;
use crate::events::snapshots::snapshot::{Snapshot, SnapshotMemory};
use crate::model::{Epoch, Partition, Position, PresenceEvent, ScanPlace, Transition, UserId};
use crate::store::{Store, StoreError};

/// Users or events that one step of a scan reads.
const STEP: usize = 1_000;

/// How long this instance may take to receive the events up to the end of the scan.
const BUS_PATIENCE: Duration = Duration::from_secs(5);

/// Reads all pages, then applies the events that happened meanwhile.
///
/// A user without an event during the scan is on a page exactly if the user was online all the
/// time. For every other user the last event decides. Hence the result is exact as of the last
/// event.
pub(crate) async fn scan(
    store: Arc<Store>,
    hub: Arc<Hub>,
    memory: Arc<SnapshotMemory>,
) -> Result<Arc<Snapshot>, StoreError> {
    let before = hub.newest();
    let (epoch, start) = store.newest_of(Partition::FIRST).await?;
    if Hub::lost_history(before, (epoch, start)) {
        // The local history contains events that the store has lost.
        hub.request_resync();
        return Err(history_changed());
    }
    let mut online = HashSet::new();
    let mut place = Some(ScanPlace::Start);
    while let Some(from) = place {
        let page = store.page_of(Partition::FIRST, &from, STEP).await?;
        online.extend(page.users);
        place = page.next;
        yield_now().await;
    }
    let (epoch_now, end) = store.newest_of(Partition::FIRST).await?;
    if epoch_now != epoch {
        return Err(history_changed());
    }
    let has_received = |hub: &Hub| {
        hub.newest()
            .is_some_and(|(local_epoch, newest)| local_epoch != epoch || newest >= end)
    };
    let received = timeout(BUS_PATIENCE, hub.wait_until(has_received)).await;
    received.map_err(|_| history_changed())?;
    let position = apply_events(&hub, epoch, start, &mut online)?;
    // A million users take long to encode, and this thread has other tasks.
    let snapshot = spawn_blocking(move || {
        let mut users: Vec<_> = online.into_iter().collect();
        users.sort_unstable();
        memory.encode(epoch, position, &users)
    });
    snapshot
        .await
        .map_err(|error| StoreError::Failed(error.to_string()))
}

/// Applies the events that this instance received after `position`. Returns the position of the
/// last one.
fn apply_events(
    hub: &Hub,
    epoch: Epoch,
    position: Position,
    online: &mut HashSet<UserId>,
) -> Result<Position, StoreError> {
    let mut from = hub
        .entry_after(epoch, position)
        .map_err(|_| history_changed())?;
    loop {
        let part = hub.read(from, |_, ring| {
            let until = (from.number + STEP as u64).min(ring.end());
            let events = (from.number..until).filter_map(|number| ring.event(number));
            let events: Vec<PresenceEvent> = events.collect();
            (until, ring.position_before(until), events)
        });
        let (until, last, events) = part.map_err(|_| history_changed())?;
        for event in events {
            match event.transition {
                Transition::Online => online.insert(event.user),
                Transition::Offline { .. } => online.remove(&event.user),
            };
        }
        if until == from.number {
            return Ok(last);
        }
        from.number = until;
    }
}

fn history_changed() -> StoreError {
    StoreError::Unreachable("the history changed during a snapshot".to_owned())
}
