//! Snapshots of all online users.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::task::{spawn_blocking, yield_now};

use crate::events::hub::Hub;
use crate::events::snapshots::snapshot::{AsOf, Snapshot, SnapshotMemory};
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame::States;
use crate::model::{
    Entry, Epoch, Partition, PartitionSet, Partitions, Position, ScanPlace, State, UserChange,
    UserId,
};
use crate::store::{Store, StoreError};

/// The online users, each with its state if something is set.
type Online = HashMap<UserId, Option<Arc<State>>>;

/// Users or events that one step of a scan reads.
const STEP: usize = 1_000;

/// Partitions of a server that are read at a time.
const READ_OF_A_SERVER: usize = 2;

/// Reads all pages of all partitions, then applies the events that happened meanwhile.
///
/// A user without an event during the scan is on a page exactly if the user was online all the
/// time. For every other user the last event decides. Hence the result is exact as of the last
/// event of each partition. A user is always in the same partition.
pub(crate) async fn scan(
    store: Arc<Store>,
    hub: Arc<Hub>,
    memory: Arc<SnapshotMemory>,
) -> Result<Arc<Snapshot>, StoreError> {
    let before = hub.newest_of_all();
    let start = newest(&store).await?;
    for ((partition, epoch, newest), before) in start.iter().zip(before) {
        if Hub::lost_history(before, (*epoch, *newest)) {
            // The local history contains events that the store has lost.
            hub.request_resync(*partition);
            return Err(history_changed());
        }
    }
    let servers = store.nodes().borrow().len().max(1);
    let online = Mutex::new(Online::new());
    let scans = store.partitions().all();
    let scans = scans.map(|partition| read_pages(&store, partition, &online));
    let scans = stream::iter(scans).buffer_unordered(READ_OF_A_SERVER * servers);
    scans.try_collect::<()>().await?;
    let mut online = online.into_inner();
    let end = newest(&store).await?;
    let mut data_sets = start.iter().zip(&end);
    if data_sets.any(|((_, epoch, _), (_, epoch_now, _))| epoch != epoch_now) {
        return Err(history_changed());
    }
    let partitions = store.partitions();
    let (start, end) = (cursor(partitions, &start), cursor(partitions, &end));
    let watched = PartitionSet::all(partitions);
    let has_received = |hub: &Hub| hub.has_received(&end, &watched) || !hub.has_data_set_of(&end);
    if !hub.catches_up(has_received).await {
        return Err(history_changed());
    }
    let cursor = apply_events(&hub, &start, &watched, &mut online)?;
    // A million users take long to encode, and this thread has other tasks.
    let snapshot = spawn_blocking(move || {
        let states = online.iter().filter_map(|(user, state)| {
            let state = state.as_ref()?;
            Some((user.clone(), Arc::clone(state)))
        });
        let states: States = states.collect();
        let mut users: Vec<_> = online.into_keys().collect();
        users.sort_unstable();
        memory.encode(cursor, AsOf::default(), (&users, &states))
    });
    snapshot
        .await
        .map_err(|error| StoreError::Failed(error.to_string()))
}

/// Reads the newest position of each partition.
async fn newest(store: &Store) -> Result<Vec<(Partition, Epoch, Position)>, StoreError> {
    let newest = store.newest(PartitionSet::all(store.partitions())).await;
    let newest = newest.into_iter().map(|(partition, newest)| {
        let (epoch, position) = newest?;
        Ok((partition, epoch, position))
    });
    newest.collect()
}

fn cursor(partitions: Partitions, at: &[(Partition, Epoch, Position)]) -> Cursor {
    match (partitions, at) {
        (Partitions::ONE, [(_, epoch, position)]) => Cursor::one(*epoch, *position),
        _ => Cursor::many(at.iter().map(|(_, _, position)| *position).collect()),
    }
}

/// Adds the users of all pages of one partition.
async fn read_pages(
    store: &Store,
    partition: Partition,
    online: &Mutex<Online>,
) -> Result<(), StoreError> {
    let mut place = Some(ScanPlace::Start);
    while let Some(from) = place {
        let page = store.page_of(partition, &from, STEP).await?;
        let users = page.users.into_iter().map(|user| (user, None));
        let states = page.states.into_iter();
        let states = states.map(|(user, state)| (user, Some(state)));
        online.lock().extend(users.chain(states));
        place = page.next;
        yield_now().await;
    }
    Ok(())
}

/// Applies the events that this instance received after `start`. Returns the cursor of the
/// last one.
fn apply_events(
    hub: &Hub,
    start: &Cursor,
    watched: &PartitionSet,
    online: &mut Online,
) -> Result<Cursor, StoreError> {
    let changed = |_| history_changed();
    let mut from = hub.missed_after(start, watched).map_err(changed)?.from;
    loop {
        let part = hub.read(from, watched, |ring| {
            let until = (from.number + STEP as u64).min(ring.end());
            let events = (from.number..until).filter_map(|number| ring.event(number));
            let events: Vec<(Partition, Entry)> = events.collect();
            (until, ring.cursor_before(until), events)
        });
        let (until, last, events) = part.map_err(changed)?;
        for (partition, event) in events {
            let Entry::Event(event) = event else {
                continue;
            };
            // An event from before the scan says less than a page.
            if event.position <= start.position(partition) {
                continue;
            }
            match event.change {
                UserChange::Online { state } | UserChange::Updated { state } => {
                    online.insert(event.user, state);
                }
                UserChange::Offline { .. } => {
                    online.remove(&event.user);
                }
            }
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
