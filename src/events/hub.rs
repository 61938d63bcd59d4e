//! Routes events to the streams that asked for them, and keeps those of the recent past.

pub(super) mod index;
pub(super) mod join;
pub(super) mod lifetimes;
pub(super) mod ring;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::index::{DeliveryPoint, Index};
use self::lifetimes::Lifetimes;
use self::ring::{Bounds, Ring};
use super::limits::Limits;
use super::sse::cursor::Cursor;
use super::sse::frame;
use super::sse::payload::EndReason;
use super::stream_limit::StreamLimitReached;
use super::subscriber::queue_memory::QueueMemory;
use super::subscriber::{Pushed, Subscriber, SubscriberOptions};
use crate::model::{Entry, Epoch, Position, UserId};
use crate::telemetry::Metrics;

/// How many streams are handed an event before others get the lock.
const DELIVER_PART: usize = 1_024;

/// How often [`Hub::tick`] has to be called.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The streams of this instance and what it has heard of; knows no store.
#[derive(Debug)]
pub struct Hub {
    metrics: Arc<Metrics>,
    limits: Limits,
    state: Mutex<State>,
    waiting: Arc<QueueMemory>,
    /// Whether the history is being read for the first time.
    is_filling: AtomicBool,
    advanced: Notify,
    behind: Notify,
}

#[derive(Debug)]
struct State {
    /// What this instance has heard of; nothing before the history was read for the first time.
    heard: Option<LocalHistory>,
    /// Counts the rings.
    generation: u64,
    index: Index,
    lifetimes: Lifetimes,
    next_id: u64,
}

/// The data set, and its recent events.
#[derive(Debug)]
struct LocalHistory {
    epoch: Epoch,
    ring: Ring,
    /// The newest position ever heard of in this data set, which is beyond the ring where the
    /// history went back.
    furthest: Position,
}

/// An event is missing between the newest one known and the one offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap;

impl Hub {
    /// A hub without streams.
    pub fn new(metrics: Arc<Metrics>, limits: Limits) -> Self {
        let state = State {
            heard: None,
            generation: 0,
            index: Index::new(),
            lifetimes: Lifetimes::new(),
            next_id: 0,
        };
        Self {
            metrics,
            limits,
            waiting: QueueMemory::at_most(limits.queue_bytes),
            state: Mutex::new(state),
            is_filling: AtomicBool::new(false),
            advanced: Notify::new(),
            behind: Notify::new(),
        }
    }

    /// The data set and the newest event heard of.
    pub fn newest(&self) -> Option<(Epoch, Position)> {
        let state = self.state.lock();
        let heard = state.heard.as_ref()?;
        Some((heard.epoch, heard.ring.newest()))
    }

    /// An empty ring, which begins after `floor`.
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

    /// The store answers, and its history is being read for the first time.
    pub(super) fn start_filling(&self) {
        self.is_filling.store(true, Ordering::Relaxed);
    }

    /// Sets what was heard. No stream follows that yet: [`Hub::detach_before`] finds those that
    /// followed another ring.
    pub(super) fn restart(&self, epoch: Epoch, ring: Ring) -> u64 {
        let mut state = self.state.lock();
        state.generation += 1;
        let same = state.heard.as_ref().filter(|heard| heard.epoch == epoch);
        let before = same.map(|heard| heard.furthest.max(heard.ring.newest()));
        let furthest = before.unwrap_or(Position::START);
        let before = state.heard.replace(LocalHistory {
            epoch,
            ring,
            furthest,
        });
        let generation = state.generation;
        drop(state);
        // That may be much, and is freed without the lock.
        drop(before);
        self.is_filling.store(false, Ordering::Relaxed);
        self.advanced.notify_waiters();
        generation
    }

    /// Detaches the streams of one part that follow an earlier ring; of all parts, one after the
    /// other.
    pub(super) fn detach_before(&self, generation: u64, part: usize) -> Vec<Arc<Subscriber>> {
        let state = self.state.lock();
        let streams = state.lifetimes.part(part);
        streams
            .filter(|subscriber| subscriber.detach_before(generation))
            .cloned()
            .collect()
    }

    /// Resolves once `is_met`, which is asked again whenever this instance has heard of something.
    pub(super) async fn wait(&self, is_met: impl Fn(&Self) -> bool) {
        loop {
            let advanced = self.advanced.notified();
            if is_met(self) {
                return;
            }
            advanced.await;
        }
    }

    /// Tells the bus that the history holds what it did not bring, or no more what it brought.
    pub(crate) fn request_resync(&self) {
        self.behind.notify_one();
    }

    /// Resolves when [`Hub::request_resync`] was called.
    pub(super) async fn resync_requested(&self) {
        self.behind.notified().await;
    }

    /// Whether `newest`, which the store answered to a question asked after `before` was heard of,
    /// shows that the store lost a part of its history: it can only go on.
    pub(crate) fn lost_history(
        before: Option<(Epoch, Position)>,
        newest: (Epoch, Position),
    ) -> bool {
        before.is_some_and(|(epoch, heard)| epoch == newest.0 && newest.1 < heard)
    }

    /// Delivers entries in their order; those known already are passed over. One that is not newer
    /// than the newest and is not known either shows that the history is another.
    pub(super) fn publish(&self, epoch: Epoch, entries: &[Entry]) -> Result<(), Gap> {
        for entry in entries {
            // Anew for each, since streams are opened and closed by threads that serve calls as well.
            let mut state = self.state.lock();
            let State { heard, index, .. } = &mut *state;
            let heard = heard
                .as_mut()
                .filter(|heard| heard.epoch == epoch)
                .ok_or(Gap)?;
            if heard.ring.has(entry) {
                continue;
            }
            let newest = heard.ring.newest();
            if entry.position() <= newest || entry.previous() != newest {
                return Err(Gap);
            }
            let wanted = entry.event().filter(|event| index.is_wanted(&event.user));
            let frame = wanted.map(|event| frame::event(epoch, event));
            heard.ring.push(entry, frame.clone());
            if let (Some(event), Some(frame)) = (wanted, frame) {
                self.deliver(state, event.position, &event.user, &frame);
            }
        }
        self.advanced.notify_waiters();
        Ok(())
    }

    /// A stream that joins while others get the lock has the event already, from the ring.
    fn deliver(
        &self,
        mut state: MutexGuard<'_, State>,
        position: Position,
        user: &UserId,
        frame: &Bytes,
    ) {
        let generation = state.generation;
        let mut reached = Some(DeliveryPoint::default());
        while let Some(from) = reached {
            let State {
                index, lifetimes, ..
            } = &mut *state;
            let (mut queued, mut overflowed) = (0, 0);
            reached =
                index.each_interested(user, from, DELIVER_PART, |subscriber| {
                    match subscriber.push(generation, position, frame) {
                        Pushed::Queued => queued += 1,
                        Pushed::Overflowed => {
                            overflowed += 1;
                            lifetimes.ended(subscriber);
                        }
                        Pushed::Ignored => {}
                    }
                });
            self.metrics.events_delivered.inc_by(queued);
            self.metrics.streams_cut_off.inc_by(overflowed);
            if reached.is_some() {
                MutexGuard::bump(&mut state);
            }
        }
    }

    /// Opens a stream that does not follow yet.
    pub(super) fn open(
        &self,
        opening: SubscriberOptions,
    ) -> Result<Arc<Subscriber>, StreamLimitReached> {
        let mut state = self.state.lock();
        let most = self.limits.watched_users;
        let group = state
            .index
            .group(&opening.interest, most)
            .ok_or(StreamLimitReached::Users)?;
        let interest = state.index.interest(group);
        let id = state.next_id;
        state.next_id += 1;
        let closes = opening.closes;
        let subscriber = Arc::new(Subscriber::new(id, group, interest, opening, &self.waiting));
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
            self.state.lock().lifetimes.ended(subscriber);
        }
    }

    /// Ends a stream whose reader keeps what others need room for.
    pub(super) fn cut_off(&self, subscriber: &Arc<Subscriber>) {
        if subscriber.end(EndReason::TooSlow) {
            self.metrics.streams_cut_off.inc();
            self.state.lock().lifetimes.ended(subscriber);
        }
    }

    /// Forgets a stream.
    pub(super) fn close(&self, subscriber: &Arc<Subscriber>) {
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

    /// Sends the comments and ends the streams whose time has come, or whose credential was
    /// withdrawn.
    pub(crate) fn tick(&self) {
        let mut state = self.state.lock();
        let over = state.lifetimes.take_steps(Instant::now());
        let turn = state.lifetimes.turn();
        let streams: Vec<_> = state.lifetimes.part(turn).cloned().collect();
        let newest = state.heard.as_ref().map(|heard| {
            let newest = heard.ring.newest();
            let ready = frame::ready(Cursor::at(heard.epoch, newest), None);
            (state.generation, newest, ready)
        });
        drop(state);
        // Over HTTP/2 the body of a stream stays for as long as its reader gives no window.
        for subscriber in &over {
            self.close(subscriber);
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

    /// Ends the streams whose credential was withdrawn, without waiting for the turn of each.
    pub(super) fn end_withdrawn(&self) {
        for part in 0..Lifetimes::parts() {
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

    /// Spreads the ends of all streams over `time`, also of those that are still being opened, so
    /// that their readers do not all reconnect at once.
    pub(crate) fn drain(&self, time: Duration) {
        self.state.lock().lifetimes.drain(time);
    }
}
