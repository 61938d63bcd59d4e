//! Who is online now, as of one event, for streams that begin with everyone.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::{Cursor, frame};
use crate::presence::{Epoch, Position, PresenceEvent, Transition, UserId};
use crate::store::{PageCursor, Store, StoreError};

/// How many users or events one step of a scan asks the store for.
const SCAN_STEP: usize = 1_000;

/// The messages of one snapshot, shared by all who asked while it was made.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) cursor: Cursor,
    pub(super) frames: Vec<Bytes>,
    /// Comes after them.
    pub(super) ready: Bytes,
}

impl Snapshot {
    /// Writes the messages: all but the last one end incomplete, so that a stream which is cut in
    /// the middle starts anew.
    pub(super) fn of(epoch: Epoch, position: Position, users: &[UserId]) -> Self {
        let cursor = Cursor::at(epoch, position);
        let parts = frame::snapshot_parts(users);
        let last = parts.len() - 1;
        let parts = parts.into_iter().enumerate().map(|(number, part)| {
            let is_last = number == last;
            let id = if is_last { cursor } else { cursor.incomplete() };
            frame::snapshot(id, part)
        });
        Self {
            cursor,
            frames: parts.collect(),
            ready: frame::ready(cursor, Some(users.len())),
        }
    }
}

/// Makes snapshots of everyone, one at a time: who asks while one is being made shares the next.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    asked: AtomicU64,
    newest: Mutex<Newest>,
}

#[derive(Debug, Default)]
struct Newest {
    /// Who asked up to here came before the scan began, and may have its result.
    serves: u64,
    snapshot: Weak<Snapshot>,
}

impl Snapshots {
    /// A snapshot of everyone that was begun after this call.
    ///
    /// The lock is a queue: it is held across the scan so that those who wait find its result.
    pub(super) async fn everyone(&self, store: &Store) -> Result<Arc<Snapshot>, StoreError> {
        let ticket = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut newest = self.newest.lock().await;
        if ticket <= newest.serves
            && let Some(snapshot) = newest.snapshot.upgrade()
        {
            return Ok(snapshot);
        }
        let serves = self.asked.load(Ordering::Relaxed);
        let snapshot = Arc::new(scan(store).await?);
        *newest = Newest {
            serves,
            snapshot: Arc::downgrade(&snapshot),
        };
        Ok(snapshot)
    }
}

/// Reads everyone page by page, then corrects the result by what happened meanwhile.
///
/// A user without an event during the scan is on a page exactly if it was online all the while;
/// for the others the last event decides. So the result is exact as of the last event read.
async fn scan(store: &Store) -> Result<Snapshot, StoreError> {
    let (epoch, mut position) = store.newest().await?;
    let mut online = HashSet::new();
    let mut cursor = PageCursor::START;
    loop {
        let page = store.announced_page(&cursor, SCAN_STEP).await?;
        online.extend(page.users);
        match page.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    loop {
        let history = store.history(position, SCAN_STEP).await?;
        if history.epoch != epoch || !history.continues(position) {
            let lost = "its history broke off during a snapshot";
            return Err(StoreError::Unreachable(lost.to_owned()));
        }
        for entry in &history.entries {
            position = entry.position();
            if let Some(event) = entry.event() {
                correct(&mut online, event);
            }
        }
        if history.entries.len() < SCAN_STEP {
            break;
        }
    }
    // Of a million users that takes long, and this thread has calls to answer.
    let written = spawn_blocking(move || {
        let mut users: Vec<_> = online.into_iter().collect();
        users.sort_unstable();
        Snapshot::of(epoch, position, &users)
    });
    written
        .await
        .map_err(|error| StoreError::Failed(error.to_string()))
}

fn correct(online: &mut HashSet<UserId>, event: &PresenceEvent) {
    match event.transition {
        Transition::Online => online.insert(event.user.clone()),
        Transition::Offline { .. } => online.remove(&event.user),
    };
}
