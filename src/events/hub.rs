//! Delivers events to the interested subscribers, and keeps the recent events.

pub(super) mod copies;
pub(super) mod delivery;
mod flaps;
pub(super) mod group_states;
pub(super) mod index;
pub(super) mod join;
pub(super) mod kept;
pub(super) mod known;
pub(super) mod lifetimes;
mod live_ids;
pub(super) mod locate;
pub(super) mod membership;
pub(super) mod own_groups;
mod part;
mod regroup;
pub(super) mod restarts;
pub(super) mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use self::copies::{Copies, RemovedCopy};
use self::index::{Index, RemovedAudience};
use self::kept::Bounds;
use self::lifetimes::Lifetimes;
use self::live_ids::LiveIds;
use self::regroup::Regroup;
use self::ring::Ring;
use super::interest::{AudienceId, Interest};
use super::limits::Limits;
use super::sse::frame::{self, Frame};
use super::sse::payload::{EndReason, ResetReason};
use super::stream_limit::StreamLimitReached;
use super::subscriber::queue_memory::QueueMemory;
use super::subscriber::{Live, Subscriber, SubscriberOptions};
use crate::model::{Epoch, Partition, PartitionSet, Partitions, Position, Timestamp};
use crate::telemetry::Metrics;

/// The interval at which [`Hub::tick`] must be called.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// How long this instance may take to receive the events that a read of the store includes.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// All subscribers of this instance and its local history. The hub does not access the store.
#[derive(Debug)]
pub(crate) struct Hub {
    metrics: Arc<Metrics>,
    limits: Limits,
    partitions: Partitions,
    state: Mutex<State>,
    /// Held while entries are delivered.
    publishing: tokio::sync::Mutex<()>,
    queue_memory: Arc<QueueMemory>,
    /// Partitions whose recent events are being read.
    filling: Mutex<PartitionSet>,
    /// Whether the history of a partition was read for the first time.
    has_begun: AtomicBool,
    received: Notify,
    to_resync: Mutex<PartitionSet>,
    to_regroup: Mutex<Vec<Regroup>>,
    regroup: Notify,
    resync: Notify,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    ids: LiveIds,
    /// Whether some of the interested streams have received the newest event, and others have not.
    is_delivering: bool,
    index: Index,
    copies: Copies,
    lifetimes: Lifetimes,
    next_id: u64,
}

impl Hub {
    /// Returns a hub without subscribers, for events of these partitions.
    pub(crate) fn new(metrics: Arc<Metrics>, limits: Limits, partitions: Partitions) -> Self {
        let bounds = Bounds {
            span: limits.history,
            bytes: limits.history_bytes,
        };
        let state = State {
            ring: Ring::new(partitions, bounds),
            ids: LiveIds::new(partitions),
            is_delivering: false,
            index: Index::new(),
            copies: Copies::default(),
            lifetimes: Lifetimes::new(),
            next_id: 0,
        };
        Self {
            metrics,
            limits,
            partitions,
            queue_memory: QueueMemory::with_limit(limits.queue_bytes),
            state: Mutex::new(state),
            publishing: tokio::sync::Mutex::default(),
            filling: Mutex::default(),
            has_begun: AtomicBool::new(false),
            received: Notify::new(),
            to_resync: Mutex::default(),
            to_regroup: Mutex::default(),
            regroup: Notify::new(),
            resync: Notify::new(),
        }
    }

    /// Returns how the users are divided.
    pub(crate) fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// Returns the data set of a partition and the position of the newest event that this instance received of it.
    pub(crate) fn newest(&self, partition: Partition) -> Option<(Epoch, Position)> {
        self.state.lock().ring.newest(partition)
    }

    /// Returns [`Hub::newest`] of each partition, in order.
    pub(crate) fn newest_of_all(&self) -> Vec<Option<(Epoch, Position)>> {
        let state = self.state.lock();
        let newest = self.partitions.all().map(|each| state.ring.newest(each));
        newest.collect()
    }

    /// Whether the histories of all these partitions were read.
    pub(super) fn knows(&self, watched: &PartitionSet) -> bool {
        let state = self.state.lock();
        let mut partitions = self.partitions.all();
        partitions.all(|each| !watched.contains(each) || state.ring.newest(each).is_some())
    }

    /// Whether the history of a partition was read for the first time.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Waits until `is_met` returns true. It is called again after each received event.
    pub(super) async fn wait_until(&self, is_met: impl Fn(&Self) -> bool) {
        loop {
            let received = self.received.notified();
            if is_met(self) {
                return;
            }
            received.await;
        }
    }

    /// Waits like [`wait_until`](Self::wait_until), and returns false after `limit`.
    pub(super) async fn wait_for(&self, limit: Duration, is_met: impl Fn(&Self) -> bool) -> bool {
        timeout(limit, self.wait_until(is_met)).await.is_ok()
    }

    /// Waits until this instance has received the events that a read of the store includes. Returns false
    /// after [`CATCH_UP_TIMEOUT`].
    pub(super) async fn catches_up(&self, has_received: impl Fn(&Self) -> bool) -> bool {
        self.wait_for(CATCH_UP_TIMEOUT, has_received).await
    }

    /// Waits until the newest positions of this instance differ from `known`.
    pub(crate) async fn newest_differs_from(&self, known: &[Option<(Epoch, Position)>]) {
        self.wait_until(|hub| hub.newest_of_all() != known).await;
    }

    /// Returns the time of the oldest event that this instance has in memory.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.state.lock().ring.oldest()
    }

    /// Counts a `presence.reset` to a stream.
    pub(super) fn note_reset(&self, reason: ResetReason) {
        self.metrics.stream_reset(reason.as_str());
    }

    /// Makes the bus subscribe again and read the history of a partition, because its events and the history in the
    /// store differ.
    pub(crate) fn request_resync(&self, partition: Partition) {
        self.to_resync.lock().insert(partition);
        self.resync.notify_one();
    }

    /// Waits for [`Hub::request_resync`]. Returns the partitions.
    pub(super) async fn resync_requested(&self) -> PartitionSet {
        self.resync.notified().await;
        std::mem::take(&mut self.to_resync.lock())
    }

    /// Whether the store lost a part of its history. `before` is the newest position that this
    /// instance knew before it read `newest` from the store. In an intact history `newest` is never
    /// older.
    pub(crate) fn lost_history(
        before: Option<(Epoch, Position)>,
        newest: (Epoch, Position),
    ) -> bool {
        before.is_some_and(|(epoch, history)| epoch == newest.0 && newest.1 < history)
    }

    /// Opens a stream that is not live yet.
    pub(super) fn open(
        &self,
        opening: SubscriberOptions,
    ) -> Result<Arc<Subscriber>, StreamLimitReached> {
        let mut state = self.state.lock();
        let most = self.limits.watched_users;
        let audience = state
            .audience(&opening.interest, most)
            .ok_or(StreamLimitReached::WatchedUsers)?;
        let interest = state.index.interest(audience);
        let id = state.next_id;
        state.next_id += 1;
        let closes = opening.closes;
        let subscriber = Arc::new(Subscriber::new(
            id,
            audience,
            interest,
            opening,
            &self.queue_memory,
        ));
        state.index.add(audience, &subscriber);
        state.lifetimes.add(&subscriber, closes);
        self.metrics.streams.inc();
        while state.index.insert_some(audience) {
            MutexGuard::bump(&mut state);
        }
        Ok(subscriber)
    }

    /// Ends a stream.
    pub(super) fn end(&self, subscriber: &Arc<Subscriber>, reason: EndReason) {
        if subscriber.end(reason) {
            self.state.lock().lifetimes.close_later(subscriber);
        }
    }

    /// Ends a stream whose reader is too slow, to free its memory.
    pub(super) fn cut_off(&self, subscriber: &Arc<Subscriber>) {
        if subscriber.end(EndReason::TooSlow) {
            self.metrics.streams_cut_off.inc();
            self.state.lock().lifetimes.close_later(subscriber);
        }
    }

    /// Removes a stream.
    pub(super) fn remove(&self, subscriber: &Arc<Subscriber>) {
        let mut state = self.state.lock();
        if !state.lifetimes.remove(subscriber) {
            return;
        }
        self.metrics.streams.dec();
        let audience = subscriber.audience();
        if let Some(removed) = state.index.remove(audience, subscriber) {
            remove_audience(state, removed);
        }
    }

    /// Sends keep-alives to one part of the streams. Ends the streams whose end is due or whose
    /// credential was withdrawn.
    pub(crate) fn tick(&self) {
        let mut state = self.state.lock();
        let closed = state.lifetimes.take_due_steps(Instant::now());
        let part = state.lifetimes.next_part();
        let streams: Vec<_> = state.lifetimes.part(part).cloned().collect();
        // While an event is delivered, a stream that has not received it must not skip it.
        let newest = (!state.is_delivering).then(|| state.newest_ready());
        drop(state);
        // Over HTTP/2 the body of a stream stays alive until the client opens its window.
        for subscriber in &closed {
            self.remove(subscriber);
        }
        for subscriber in &streams {
            if subscriber.is_withdrawn() {
                self.end(subscriber, EndReason::TokenExpired);
            }
            let newest = newest.as_ref();
            subscriber.keep_alive(newest.map(|(live, ready)| (*live, ready)));
        }
    }

    /// Ends all streams whose credential was withdrawn.
    pub(super) fn end_withdrawn(&self) {
        for part in 0..Lifetimes::part_count() {
            let state = self.state.lock();
            let withdrawn = state
                .lifetimes
                .part(part)
                .filter(|subscriber| subscriber.is_withdrawn());
            let withdrawn: Vec<_> = withdrawn.cloned().collect();
            drop(state);
            for subscriber in &withdrawn {
                self.end(subscriber, EndReason::TokenExpired);
            }
        }
    }

    /// Spreads the ends of all streams over `time`, including streams that open later, so that
    /// clients do not all reconnect at once.
    pub(crate) fn drain(&self, time: Duration) {
        self.state.lock().lifetimes.drain(time);
    }
}

impl State {
    /// Returns the audience with this interest, which may be new. The copies of its groups are pinned. Returns `None`
    /// if the lists and groups of all streams would take more memory than `most` users.
    fn audience(&mut self, interest: &Interest, most: usize) -> Option<AudienceId> {
        let most = most.saturating_sub(self.copies.weight());
        let audience = self.index.audience(interest, most)?;
        for group in interest.listed_groups() {
            self.copies.watch(group, audience);
        }
        Some(audience)
    }

    /// Returns `presence.ready` with the newest cursor, and the place in the ring from which a stream continues after it.
    fn newest_ready(&self) -> (Live, Frame) {
        let live = Live {
            generation: self.ring.generation(),
            next: self.ring.end(),
        };
        (
            live,
            frame::ready(&self.ring.cursor_before(live.next), None),
        )
    }
}

/// Removes an audience without subscribers.
fn remove_audience(mut state: MutexGuard<'_, State>, mut removed: RemovedAudience) {
    let groups = removed.interest.listed_groups().iter();
    let copies = groups.filter_map(|group| state.copies.unwatch(group, removed.id));
    let copies: Vec<_> = copies.collect();
    while state.index.remove_some(&mut removed) {
        MutexGuard::bump(&mut state);
    }
    free(state, copies);
}

/// Removes the members of copies that no stream needs any more.
fn free(mut state: MutexGuard<'_, State>, copies: Vec<RemovedCopy>) {
    for mut copy in copies {
        while state.copies.remove_some(&mut copy) {
            MutexGuard::bump(&mut state);
        }
    }
}
