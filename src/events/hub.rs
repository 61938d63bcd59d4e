//! Delivers events to the interested subscribers, and keeps the recent events.

pub(super) mod index;
pub(super) mod join;
pub(super) mod lifetimes;
pub(super) mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::index::{DeliveryPoint, Index};
use self::lifetimes::Lifetimes;
use self::ring::{Bounds, Ring};
use super::limits::Limits;
use super::sse::cursor::Cursor;
use super::sse::frame::{self, Frame};
use super::sse::payload::EndReason;
use super::stream_limit::StreamLimitReached;
use super::subscriber::queue_memory::QueueMemory;
use super::subscriber::{Pushed, Subscriber, SubscriberOptions};
use crate::model::{Entry, Epoch, Position, UserId};
use crate::telemetry::Metrics;

/// Subscribers that receive an event before the lock is released for other threads.
const DELIVERY_PART: usize = 1_024;

/// The interval at which [`Hub::tick`] must be called.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// All subscribers of this instance and its local history. The hub does not access the store.
#[derive(Debug)]
pub(crate) struct Hub {
    metrics: Arc<Metrics>,
    limits: Limits,
    state: Mutex<State>,
    queue_memory: Arc<QueueMemory>,
    /// Whether the history is being read for the first time.
    is_filling: AtomicBool,
    received: Notify,
    resync: Notify,
}

#[derive(Debug)]
struct State {
    /// `None` until the history was read for the first time.
    history: Option<LocalHistory>,
    /// The number of the current ring.
    generation: u64,
    index: Index,
    lifetimes: Lifetimes,
    next_id: u64,
}

/// The data set and its recent events, as this instance received them.
#[derive(Debug)]
struct LocalHistory {
    epoch: Epoch,
    ring: Ring,
    /// The newest position ever received from this data set. It is newer than the ring after the
    /// history was truncated.
    furthest: Position,
}

/// An event is missing between the newest known event and the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap;

impl Hub {
    /// Returns a hub without subscribers.
    pub(crate) fn new(metrics: Arc<Metrics>, limits: Limits) -> Self {
        let state = State {
            history: None,
            generation: 0,
            index: Index::new(),
            lifetimes: Lifetimes::new(),
            next_id: 0,
        };
        Self {
            metrics,
            limits,
            queue_memory: QueueMemory::with_limit(limits.queue_bytes),
            state: Mutex::new(state),
            is_filling: AtomicBool::new(false),
            received: Notify::new(),
            resync: Notify::new(),
        }
    }

    /// Returns the data set and the position of the newest event that this instance received.
    pub(crate) fn newest(&self) -> Option<(Epoch, Position)> {
        let state = self.state.lock();
        let history = state.history.as_ref()?;
        Some((history.epoch, history.ring.newest()))
    }

    /// Returns an empty ring that begins after `floor`.
    pub(super) fn ring_after(&self, floor: Position) -> Ring {
        let bounds = Bounds {
            span: self.limits.history,
            bytes: self.limits.history_bytes,
        };
        Ring::after(floor, bounds)
    }

    /// Whether the history is being read for the first time.
    pub(super) fn is_filling(&self) -> bool {
        self.is_filling.load(Ordering::Relaxed)
    }

    /// Records that the store answers, and that its history is being read for the first time.
    pub(super) fn start_filling(&self) {
        self.is_filling.store(true, Ordering::Relaxed);
    }

    /// Replaces the local history and returns its generation. No stream follows the new ring yet:
    /// [`Hub::detach_before`] finds the streams that follow an older ring.
    pub(super) fn restart(&self, epoch: Epoch, ring: Ring) -> u64 {
        let mut state = self.state.lock();
        state.generation += 1;
        let same = state
            .history
            .as_ref()
            .filter(|history| history.epoch == epoch);
        let before = same.map(|history| history.furthest.max(history.ring.newest()));
        let furthest = before.unwrap_or(Position::START);
        let before = state.history.replace(LocalHistory {
            epoch,
            ring,
            furthest,
        });
        let generation = state.generation;
        drop(state);
        // A large ring takes long to free, so the lock is released first.
        drop(before);
        self.is_filling.store(false, Ordering::Relaxed);
        self.received.notify_waiters();
        generation
    }

    /// Detaches and returns the streams of one part that follow an older ring.
    pub(super) fn detach_before(&self, generation: u64, part: usize) -> Vec<Arc<Subscriber>> {
        let state = self.state.lock();
        let streams = state.lifetimes.part(part);
        streams
            .filter(|subscriber| subscriber.detach_before(generation))
            .cloned()
            .collect()
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

    /// Waits until the newest position of this instance differs from `known`.
    pub(crate) async fn newest_differs_from(&self, known: Option<(Epoch, Position)>) {
        self.wait_until(|hub| hub.newest() != known).await;
    }

    /// Makes the bus subscribe again, because its events and the history in the store differ.
    pub(crate) fn request_resync(&self) {
        self.resync.notify_one();
    }

    /// Waits for [`Hub::request_resync`].
    pub(super) async fn resync_requested(&self) {
        self.resync.notified().await;
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

    /// Delivers entries in order and skips known entries. Fails if an entry is missing, or if an
    /// old entry is unknown: then the history is another one.
    pub(super) fn publish(&self, epoch: Epoch, entries: &[Entry]) -> Result<(), Gap> {
        for entry in entries {
            // The lock is taken for each entry, because threads that serve calls also open and
            // close streams.
            let mut state = self.state.lock();
            let State { history, index, .. } = &mut *state;
            let history = history
                .as_mut()
                .filter(|history| history.epoch == epoch)
                .ok_or(Gap)?;
            if history.ring.has(entry) {
                continue;
            }
            let newest = history.ring.newest();
            if entry.position() <= newest || entry.previous() != newest {
                return Err(Gap);
            }
            let watched = entry.event().filter(|event| index.is_watched(&event.user));
            let frame = watched.map(|event| frame::event(epoch, event));
            history.ring.push(entry, frame.clone());
            if let (Some(event), Some(frame)) = (watched, frame) {
                self.deliver(state, event.position, &event.user, &frame);
            }
        }
        self.received.notify_waiters();
        Ok(())
    }

    /// Delivers one event. A stream that joins while the lock is released has the event from the
    /// ring.
    fn deliver(
        &self,
        mut state: MutexGuard<'_, State>,
        position: Position,
        user: &UserId,
        frame: &Frame,
    ) {
        let generation = state.generation;
        let mut next = Some(DeliveryPoint::default());
        while let Some(from) = next {
            let State {
                index, lifetimes, ..
            } = &mut *state;
            let (mut queued, mut too_slow) = (0, 0);
            next =
                index.for_each_interested(user, from, DELIVERY_PART, |subscriber| match subscriber
                    .push(generation, position, frame)
                {
                    Pushed::Queued => queued += 1,
                    Pushed::TooSlow => {
                        too_slow += 1;
                        lifetimes.close_later(subscriber);
                    }
                    Pushed::Ignored => {}
                });
            self.metrics.events_delivered.inc_by(queued);
            self.metrics.streams_cut_off.inc_by(too_slow);
            if next.is_some() {
                MutexGuard::bump(&mut state);
            }
        }
    }

    /// Opens a stream that is not live yet.
    pub(super) fn open(
        &self,
        opening: SubscriberOptions,
    ) -> Result<Arc<Subscriber>, StreamLimitReached> {
        let mut state = self.state.lock();
        let most = self.limits.watched_users;
        let group = state
            .index
            .group(&opening.interest, most)
            .ok_or(StreamLimitReached::WatchedUsers)?;
        let interest = state.index.interest(group);
        let id = state.next_id;
        state.next_id += 1;
        let closes = opening.closes;
        let subscriber = Arc::new(Subscriber::new(
            id,
            group,
            interest,
            opening,
            &self.queue_memory,
        ));
        state.index.add(group, &subscriber);
        state.lifetimes.add(&subscriber, closes);
        self.metrics.streams.inc();
        while state.index.insert_some(group) {
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
        let Some(mut removed) = state.index.remove(subscriber) else {
            return;
        };
        while state.index.remove_some(&mut removed) {
            MutexGuard::bump(&mut state);
        }
    }

    /// Sends keep-alives to one part of the streams. Ends the streams whose end is due or whose
    /// credential was withdrawn.
    pub(crate) fn tick(&self) {
        let mut state = self.state.lock();
        let closed = state.lifetimes.take_due_steps(Instant::now());
        let part = state.lifetimes.next_part();
        let streams: Vec<_> = state.lifetimes.part(part).cloned().collect();
        let newest = state.history.as_ref().map(|history| {
            let newest = history.ring.newest();
            let ready = frame::ready(Cursor::at(history.epoch, newest), None);
            (state.generation, newest, ready)
        });
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
            subscriber.keep_alive(
                newest.map(|(generation, newest, ready)| (*generation, *newest, ready)),
            );
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
