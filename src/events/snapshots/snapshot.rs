//! The messages that say who is online now.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::events::hub::Hub;
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame;
use crate::events::subscriber::Subscriber;
use crate::model::{Epoch, Position, UserId};

/// The messages of one snapshot, shared by all who wait for them.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) cursor: Cursor,
    pub(crate) frames: Vec<Bytes>,
    /// Comes after them.
    pub(crate) ready: Bytes,
    readers: Mutex<Vec<Weak<Subscriber>>>,
    bytes: usize,
    /// What it counts in while it lives.
    counted: Arc<AtomicUsize>,
}

impl Snapshot {
    /// Writes the messages: all but the last one end incomplete, so that a stream which is cut in
    /// the middle starts anew.
    fn write(
        epoch: Epoch,
        position: Position,
        users: &[UserId],
        counted: &Arc<AtomicUsize>,
    ) -> Self {
        let cursor = Cursor::at(epoch, position);
        let parts = frame::snapshot_parts(users);
        let last = parts.len() - 1;
        let parts = parts.into_iter().enumerate().map(|(number, part)| {
            let is_last = number == last;
            let id = if is_last { cursor } else { cursor.incomplete() };
            frame::snapshot(id, part)
        });
        let frames: Vec<_> = parts.collect();
        let bytes = frames.iter().map(Bytes::len).sum();
        counted.fetch_add(bytes, Ordering::Relaxed);
        Self {
            cursor,
            frames,
            ready: frame::ready(cursor, Some(users.len())),
            readers: Mutex::default(),
            bytes,
            counted: Arc::clone(counted),
        }
    }

    /// Feeds the messages one after the other, each when its reader took the one before.
    pub(crate) async fn feed(self: Arc<Self>, subscriber: &Arc<Subscriber>) -> Cursor {
        self.readers.lock().push(Arc::downgrade(subscriber));
        for message in &self.frames {
            subscriber.feed([message.clone()]);
            if !subscriber.backlog_taken().await {
                return self.cursor;
            }
        }
        subscriber.feed_ready(self.ready.clone());
        self.cursor
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.counted.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// All snapshots that somebody has yet to read.
#[derive(Debug)]
pub(crate) struct SnapshotMemory {
    hub: Arc<Hub>,
    most_bytes: usize,
    bytes: Arc<AtomicUsize>,
    /// From the oldest to the newest.
    snapshots: Mutex<VecDeque<Weak<Snapshot>>>,
}

impl SnapshotMemory {
    pub(crate) fn new(hub: Arc<Hub>, most_bytes: usize) -> Self {
        Self {
            hub,
            most_bytes,
            bytes: Arc::default(),
            snapshots: Mutex::default(),
        }
    }

    /// Writes a snapshot. Where those that are unread take too much by now, the readers of the
    /// oldest are cut off: they had the most time.
    pub(crate) fn write(
        &self,
        epoch: Epoch,
        position: Position,
        users: &[UserId],
    ) -> Arc<Snapshot> {
        let snapshot = Arc::new(Snapshot::write(epoch, position, users, &self.bytes));
        let too_old = {
            let mut snapshots = self.snapshots.lock();
            if snapshots.len() == snapshots.capacity() {
                snapshots.retain(|snapshot| snapshot.strong_count() > 0);
            }
            let too_old = self.too_old(&mut snapshots);
            snapshots.push_back(Arc::downgrade(&snapshot));
            too_old
        };
        for snapshot in too_old {
            let readers = mem::take(&mut *snapshot.readers.lock());
            for subscriber in readers.iter().filter_map(Weak::upgrade) {
                self.hub.cut_off(&subscriber);
            }
        }
        snapshot
    }

    /// The oldest of them, as many as are too much.
    fn too_old(&self, snapshots: &mut VecDeque<Weak<Snapshot>>) -> Vec<Arc<Snapshot>> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let mut excess = bytes.saturating_sub(self.most_bytes);
        let mut too_old = Vec::new();
        while excess > 0
            && let Some(oldest) = snapshots.pop_front()
        {
            if let Some(oldest) = oldest.upgrade() {
                excess = excess.saturating_sub(oldest.bytes);
                too_old.push(oldest);
            }
        }
        too_old
    }
}
