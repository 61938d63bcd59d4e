//! The encoded messages of a snapshot, and the memory that snapshots take.

use std::collections::{HashSet, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::events::hub::Hub;
use crate::events::hub::group_states::GroupStates;
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame::{self, Frame, States};
use crate::events::subscriber::Subscriber;
use crate::model::{Epoch, GroupId, Partition, Position, UserId};

/// The data set of some partitions, and the position of each that a snapshot has.
pub(crate) type AsOf = Arc<[(Partition, Epoch, Position)]>;

/// The frames of one snapshot. All streams that wait for the snapshot share them.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) cursor: Cursor,
    /// The partitions that the store read for this snapshot. Empty for a snapshot that was compared with the local
    /// history already.
    pub(crate) as_of: AsOf,
    pub(crate) frames: Vec<Frame>,
    /// The `presence.ready` that follows the snapshot.
    pub(crate) ready: Frame,
    readers: Mutex<Vec<Weak<Subscriber>>>,
    bytes: usize,
    /// The total that includes `bytes` while the snapshot lives.
    total: Arc<AtomicUsize>,
}

/// The users of one message.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    /// The group and the number of its members.
    group: Option<(&'a GroupId, usize)>,
    users: &'a [UserId],
}

impl Snapshot {
    /// Encodes a snapshot. Only the last message has a complete cursor, so that a client that is
    /// disconnected earlier gets a new snapshot.
    fn encode(
        cursor: Cursor,
        as_of: AsOf,
        (users, states): (&[UserId], &States),
        total: &Arc<AtomicUsize>,
    ) -> Self {
        let parts = frame::snapshot_parts(users, states).into_iter();
        let parts = parts.map(|users| Part { group: None, users });
        let parts: Vec<_> = parts.collect();
        Self::of_parts(cursor, as_of, (&parts, states), users.len(), total)
    }

    /// Encodes the parts, one message each. `count` is the number of different users.
    fn of_parts(
        cursor: Cursor,
        as_of: AsOf,
        (parts, states): (&[Part<'_>], &States),
        count: usize,
        total: &Arc<AtomicUsize>,
    ) -> Self {
        let incomplete = cursor.clone().incomplete();
        let last = parts.len().saturating_sub(1);
        let messages = parts.iter().enumerate().map(|(number, part)| {
            let is_last = number == last;
            let id = if is_last { &cursor } else { &incomplete };
            frame::snapshot(id, part.group, part.users, states)
        });
        let frames: Vec<_> = messages.collect();
        let bytes = frames.iter().map(Frame::memory).sum();
        total.fetch_add(bytes, Ordering::Relaxed);
        Self {
            ready: frame::ready(&cursor, Some(count)),
            cursor,
            as_of,
            frames,
            readers: Mutex::default(),
            bytes,
            total: Arc::clone(total),
        }
    }

    /// Queues the frames one by one, each after the client has taken the one before, and then `presence.ready`.
    pub(crate) async fn send(self: Arc<Self>, subscriber: &Arc<Subscriber>) -> Cursor {
        if self.send_messages(subscriber).await {
            subscriber.push_ready(self.ready.clone());
        }
        self.cursor.clone()
    }

    /// Queues the frames without `presence.ready`. Returns false if the stream ended.
    pub(crate) async fn send_messages(self: &Arc<Self>, subscriber: &Arc<Subscriber>) -> bool {
        self.readers.lock().push(Arc::downgrade(subscriber));
        for message in &self.frames {
            subscriber.push_backlog([message.clone()]);
            if !subscriber.backlog_taken().await {
                return false;
            }
        }
        true
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The memory of all snapshots that clients are reading.
#[derive(Debug)]
pub(crate) struct SnapshotMemory {
    hub: Arc<Hub>,
    limit: usize,
    bytes: Arc<AtomicUsize>,
    /// From the oldest to the newest.
    snapshots: Mutex<VecDeque<Weak<Snapshot>>>,
}

impl SnapshotMemory {
    pub(crate) fn new(hub: Arc<Hub>, limit: usize) -> Self {
        Self {
            hub,
            limit,
            bytes: Arc::default(),
            snapshots: Mutex::default(),
        }
    }

    /// Encodes a snapshot. If all snapshots together take too much memory, the readers of the
    /// oldest are cut off: they had the most time.
    pub(crate) fn encode(
        &self,
        cursor: Cursor,
        as_of: AsOf,
        online: (&[UserId], &States),
    ) -> Arc<Snapshot> {
        self.keep(Snapshot::encode(cursor, as_of, online, &self.bytes))
    }

    /// Encodes the states of groups like [`SnapshotMemory::encode`].
    pub(crate) fn encode_groups(&self, states: GroupStates) -> Arc<Snapshot> {
        let GroupStates {
            cursor,
            users,
            groups,
            states,
            ..
        } = states;
        let mut parts = Vec::new();
        if let Some(users) = &users {
            let listed = frame::snapshot_parts(users, &states).into_iter();
            parts.extend(listed.map(|users| Part { group: None, users }));
        }
        for (group, members, online) in &groups {
            let of_group = frame::snapshot_parts(online, &states).into_iter();
            parts.extend(of_group.map(|users| Part {
                group: Some((group, *members)),
                users,
            }));
        }
        let online = groups.iter().flat_map(|(_, _, online)| online);
        let online: HashSet<_, RandomState> = online.chain(users.iter().flatten()).collect();
        let count = online.len();
        let as_of = AsOf::default();
        self.keep(Snapshot::of_parts(
            cursor,
            as_of,
            (&parts, &states),
            count,
            &self.bytes,
        ))
    }

    fn keep(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        let excess_snapshots = {
            let mut snapshots = self.snapshots.lock();
            if snapshots.len() == snapshots.capacity() {
                snapshots.retain(|snapshot| snapshot.strong_count() > 0);
            }
            let excess_snapshots = self.excess_snapshots(&mut snapshots);
            snapshots.push_back(Arc::downgrade(&snapshot));
            excess_snapshots
        };
        for snapshot in excess_snapshots {
            let readers = mem::take(&mut *snapshot.readers.lock());
            for subscriber in readers.iter().filter_map(Weak::upgrade) {
                self.hub.cut_off(&subscriber);
            }
        }
        snapshot
    }

    /// Removes the oldest snapshots until the others fit into the limit, and returns them.
    fn excess_snapshots(&self, snapshots: &mut VecDeque<Weak<Snapshot>>) -> Vec<Arc<Snapshot>> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let mut excess = bytes.saturating_sub(self.limit);
        let mut excess_snapshots = Vec::new();
        while excess > 0
            && let Some(oldest) = snapshots.pop_front()
        {
            if let Some(oldest) = oldest.upgrade() {
                excess = excess.saturating_sub(oldest.bytes);
                excess_snapshots.push(oldest);
            }
        }
        excess_snapshots
    }
}
