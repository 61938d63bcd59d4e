//! Who is online of all_users, as of one event.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{spawn_blocking, yield_now};
use tokio::time::timeout;

use crate::events::hub::Hub;
use crate::events::snapshots::snapshot::{Snapshot, SnapshotMemory};
use crate::model::PageCursor;
use crate::model::{Epoch, Position, PresenceEvent, Transition, UserId};
use crate::store::{Store, StoreError};

/// How many users or events one step of a scan asks for.
const STEP: usize = 1_000;

/// How long this instance may take to hear of what the store held when the scan ended.
const BUS_PATIENCE: Duration = Duration::from_secs(5);

/// Reads all_users page by page, then corrects the result by what happened meanwhile.
///
/// A user without an event during the scan is on a page exactly if it was online all the while;
/// for the others the last event decides. So the result is exact as of the last event.
pub(crate) async fn scan(
    store: Arc<Store>,
    hub: Arc<Hub>,
    unread: Arc<SnapshotMemory>,
) -> Result<Arc<Snapshot>, StoreError> {
    let before = hub.newest();
    let (epoch, began) = store.newest().await?;
    if Hub::lost_history(before, (epoch, began)) {
        // The events that this instance has heard of are no part of the history any more.
        hub.request_resync();
        return Err(broke_off());
    }
    let mut online = HashSet::new();
    let mut cursor = PageCursor::START;
    loop {
        let page = store.announced_page(&cursor, STEP).await?;
        online.extend(page.users);
        match page.next {
            Some(next) => cursor = next,
            None => break,
        }
        yield_now().await;
    }
    let (epoch_now, ended) = store.newest().await?;
    if epoch_now != epoch {
        return Err(broke_off());
    }
    let has_heard = |hub: &Hub| {
        hub.newest()
            .is_some_and(|(heard, newest)| heard != epoch || newest >= ended)
    };
    let heard = timeout(BUS_PATIENCE, hub.wait(has_heard)).await;
    heard.map_err(|_| broke_off())?;
    let position = correct(&hub, epoch, began, &mut online)?;
    // Of a million users that takes long, and this thread has other tasks.
    let written = spawn_blocking(move || {
        let mut users: Vec<_> = online.into_iter().collect();
        users.sort_unstable();
        unread.write(epoch, position, &users)
    });
    written
        .await
        .map_err(|error| StoreError::Failed(error.to_string()))
}

/// Applies the events after `position`, as far as this instance has heard of them; the position of
/// the last one.
fn correct(
    hub: &Hub,
    epoch: Epoch,
    position: Position,
    online: &mut HashSet<UserId>,
) -> Result<Position, StoreError> {
    let mut place = hub.entry_after(epoch, position).map_err(|_| broke_off())?;
    loop {
        let part = hub.read(place, |_, ring| {
            let upto = (place.number + STEP as u64).min(ring.end());
            let events = (place.number..upto).filter_map(|number| ring.event(number));
            let events: Vec<PresenceEvent> = events.collect();
            (upto, ring.position_before(upto), events)
        });
        let (upto, reached, events) = part.map_err(|_| broke_off())?;
        for event in events {
            match event.transition {
                Transition::Online => online.insert(event.user),
                Transition::Offline { .. } => online.remove(&event.user),
            };
        }
        if upto == place.number {
            return Ok(reached);
        }
        place.number = upto;
    }
}

fn broke_off() -> StoreError {
    StoreError::Unreachable("its history broke off during a snapshot".to_owned())
}
