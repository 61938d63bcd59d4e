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

use self::index::{Index, Reached};
use self::lifetimes::Ages;
use self::ring::{Bounds, Ring};
use super::limits::Limits;
use super::sse::cursor::Cursor;
use super::sse::frame;
use super::sse::payload::EndReason;
use super::stream_limit::Full;
use super::subscriber::queue_memory::Waiting;
use super::subscriber::{Opening, Pushed, Slot};
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
    waiting: Arc<Waiting>,
    /// Whether the history is being read for the first time.
    fills: AtomicBool,
    advanced: Notify,
    behind: Notify,
}

#[derive(Debug)]
struct State {
    /// What this instance has heard of; nothing before the history was read for the first time.
    heard: Option<Heard>,
    /// Counts the rings.
    generation: u64,
    index: Index,
    ages: Ages,
    next_id: u64,
}

/// The data set, and its recent events.
#[derive(Debug)]
struct Heard {
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
            ages: Ages::new(),
            next_id: 0,
        };
        Self {
            metrics,
            limits,
            waiting: Waiting::at_most(limits.queue_bytes),
            state: Mutex::new(state),
            fills: AtomicBool::new(false),
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
    pub(super) fn fills(&self) -> bool {
        self.fills.load(Ordering::Relaxed)
    }

    /// The store answers, and its history is being read for the first time.
    pub(super) fn begin_to_fill(&self) {
        self.fills.store(true, Ordering::Relaxed);
    }

    /// Sets what was heard. No stream follows that yet: [`Hub::leave_before`] finds those that
    /// followed another ring.
    pub(super) fn restart(&self, epoch: Epoch, ring: Ring) -> u64 {
        let mut state = self.state.lock();
        state.generation += 1;
        let same = state.heard.as_ref().filter(|heard| heard.epoch == epoch);
        let before = same.map(|heard| heard.furthest.max(heard.ring.newest()));
        let furthest = before.unwrap_or(Position::START);
        let before = state.heard.replace(Heard {
            epoch,
            ring,
            furthest,
        });
        let generation = state.generation;
        drop(state);
        // That may be much, and is freed without the lock.
        drop(before);
        self.fills.store(false, Ordering::Relaxed);
        self.advanced.notify_waiters();
        generation
    }

    /// Detaches the streams of one part that follow an earlier ring; of all parts, one after the
    /// other.
    pub(super) fn leave_before(&self, generation: u64, part: usize) -> Vec<Arc<Slot>> {
        let state = self.state.lock();
        let streams = state.ages.part(part);
        streams
            .filter(|slot| slot.leave_before(generation))
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
    pub(crate) fn fell_behind(&self) {
        self.behind.notify_one();
    }

    /// Resolves when [`Hub::fell_behind`] was called.
    pub(super) async fn is_behind(&self) {
        self.behind.notified().await;
    }

    /// Whether `newest`, which the store answered to a question asked after `before` was heard of,
    /// shows that the store lost a part of its history: it can only go on.
    pub(crate) fn went_back(before: Option<(Epoch, Position)>, newest: (Epoch, Position)) -> bool {
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
        let mut reached = Some(Reached::default());
        while let Some(from) = reached {
            let State { index, ages, .. } = &mut *state;
            let (mut queued, mut overflowed) = (0, 0);
            reached = index.each_interested(user, from, DELIVER_PART, |slot| {
                match slot.push(generation, position, frame) {
                    Pushed::Queued => queued += 1,
                    Pushed::Overflowed => {
                        overflowed += 1;
                        ages.ended(slot);
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
    pub(super) fn open(&self, opening: Opening) -> Result<Arc<Slot>, Full> {
        let mut state = self.state.lock();
        let most = self.limits.watched_users;
        let group = state
            .index
            .group(&opening.interest, most)
            .ok_or(Full::Users)?;
        let interest = state.index.interest(group);
        let id = state.next_id;
        state.next_id += 1;
        let closes = opening.closes;
        let slot = Arc::new(Slot::new(id, group, interest, opening, &self.waiting));
        state.index.add(group, &slot);
        state.ages.add(&slot, closes);
        self.metrics.streams.inc();
        while state.index.enter_some(group) {
            MutexGuard::bump(&mut state);
        }
        Ok(slot)
    }

    /// Ends a stream.
    pub(super) fn end(&self, slot: &Arc<Slot>, reason: EndReason) {
        if slot.end(reason) {
            self.state.lock().ages.ended(slot);
        }
    }

    /// Ends a stream whose reader keeps what others need room for.
    pub(super) fn cut_off(&self, slot: &Arc<Slot>) {
        if slot.end(EndReason::TooSlow) {
            self.metrics.streams_cut_off.inc();
            self.state.lock().ages.ended(slot);
        }
    }

    /// Forgets a stream.
    pub(super) fn close(&self, slot: &Arc<Slot>) {
        let mut state = self.state.lock();
        if !state.ages.remove(slot) {
            return;
        }
        self.metrics.streams.dec();
        let Some(mut leaving) = state.index.remove(slot) else {
            return;
        };
        while state.index.leave_some(&mut leaving) {
            MutexGuard::bump(&mut state);
        }
    }

    /// Sends the comments and ends the streams whose time has come, or whose credential was
    /// withdrawn.
    pub(crate) fn tick(&self) {
        let mut state = self.state.lock();
        let over = state.ages.take_steps(Instant::now());
        let turn = state.ages.turn();
        let streams: Vec<_> = state.ages.part(turn).cloned().collect();
        let newest = state.heard.as_ref().map(|heard| {
            let newest = heard.ring.newest();
            let ready = frame::ready(Cursor::at(heard.epoch, newest), None);
            (state.generation, newest, ready)
        });
        drop(state);
        // Over HTTP/2 the body of a stream stays for as long as its reader gives no window.
        for slot in &over {
            self.close(slot);
        }
        for slot in &streams {
            if slot.is_withdrawn() {
                self.end(slot, EndReason::TokenExpired);
            }
            let newest = newest.as_ref();
            slot.keep_alive(
                newest.map(|(generation, newest, ready)| (*generation, *newest, ready)),
            );
        }
    }

    /// Ends the streams whose credential was withdrawn, without waiting for the turn of each.
    pub(super) fn end_withdrawn(&self) {
        for part in 0..Ages::parts() {
            let state = self.state.lock();
            let withdrawn = state.ages.part(part).filter(|slot| slot.is_withdrawn());
            let withdrawn: Vec<_> = withdrawn.cloned().collect();
            drop(state);
            for slot in &withdrawn {
                self.end(slot, EndReason::TokenExpired);
            }
        }
    }

    /// Spreads the ends of all streams over `time`, also of those that are still being opened, so
    /// that their readers do not all reconnect at once.
    pub(crate) fn drain(&self, time: Duration) {
        self.state.lock().ages.drain(time);
    }
}
