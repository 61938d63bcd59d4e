//! Who is interested in whom, and the events of the recent past.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Cursor;
use super::frame;
use super::payload::EndReason;
use super::slot::{Opening, Pushed, Slot};
use super::stream::Interest;
use crate::presence::{Entry, Epoch, Position, Timestamp, UserId};
use crate::telemetry::Metrics;

/// How many events are kept to let streams resume without asking the store. At most about 12 MB,
/// and enough for half a minute at a thousand events a second.
const RECENT_LIMIT: usize = 32_768;

/// How many missed events a stream may be given at once when it joins.
const JOIN_LIMIT: usize = 1_000;

/// How often [`Hub::tick`] has to be called.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Every stream is given a comment once in this many ticks: every 12 s, under the 15 s promised.
const KEEP_ALIVE_TICKS: usize = 120;

/// How long the reader of an ended stream has to take what waits, and then as long again for the
/// reason.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// The same during a shutdown, as a part of the time over which the streams are ended.
const END_PART_OF_DRAIN: f64 = 0.1;

/// Routes events to the streams that asked for them; knows no store.
#[derive(Debug)]
pub struct Hub {
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The data set and the newest event heard of; none before the bus first reached the store.
    newest: Option<(Epoch, Position)>,
    recent: VecDeque<Recent>,
    everyone: HashMap<u64, Arc<Slot>>,
    by_user: HashMap<UserId, Vec<Arc<Slot>>>,
    wheel: Vec<HashMap<u64, Arc<Slot>>>,
    tick: usize,
    /// When each stream takes its next step towards its end.
    closing: BTreeMap<(Instant, u64), (Arc<Slot>, Step)>,
    closes_at: HashMap<u64, Instant>,
    end_patience: Duration,
    /// Set by a shutdown: when the last stream has to end.
    drained_at: Option<Instant>,
    next_id: u64,
}

/// What happens next to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It ends, with this reason.
    End(EndReason),
    /// What waits is dropped.
    DropQueues,
    /// It is over.
    Finish,
}

#[derive(Debug)]
struct Recent {
    position: Position,
    previous: Position,
    at: Timestamp,
    /// Whose event it is and its message; none where the kind is unknown.
    shown: Option<(UserId, Bytes)>,
}

/// An event is missing between the newest one known and the one offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap;

/// Whether a position is known to be that of an event, or only claimed by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Known,
    Claimed,
}

/// What came of joining a stream to the live events.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It follows, or is closed already and never will.
    Following,
    /// It missed more than can be queued at once: these first, up to there.
    Behind(Vec<Bytes>, Position),
    /// What it missed is older, or claimed to be newer, than what is kept here.
    NotKept,
    /// No event has this position.
    Unknown,
    /// What it missed is older than what may be resumed.
    Gone,
    /// The data set is another.
    OtherEpoch,
}

impl Hub {
    /// A hub without streams.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let state = State {
            newest: None,
            recent: VecDeque::new(),
            everyone: HashMap::new(),
            by_user: HashMap::new(),
            wheel: (0..KEEP_ALIVE_TICKS).map(|_| HashMap::new()).collect(),
            tick: 0,
            closing: BTreeMap::new(),
            closes_at: HashMap::new(),
            end_patience: END_PATIENCE,
            drained_at: None,
            next_id: 0,
        };
        Self {
            metrics,
            state: Mutex::new(state),
        }
    }

    /// The data set and the newest event heard of.
    pub fn newest(&self) -> Option<(Epoch, Position)> {
        self.state.lock().newest
    }

    /// Sets the place to go on from, and detaches every stream that followed another.
    pub(super) fn restart(&self, epoch: Epoch, position: Position) -> Vec<Arc<Slot>> {
        let mut state = self.state.lock();
        state.newest = Some((epoch, position));
        state.recent.clear();
        let mut followers: Vec<_> = state.everyone.drain().map(|(_, slot)| slot).collect();
        let by_user = std::mem::take(&mut state.by_user);
        followers.extend(by_user.into_values().flatten());
        followers.sort_unstable_by_key(|slot| slot.id);
        followers.dedup_by_key(|slot| slot.id);
        for slot in &followers {
            slot.unfollow();
        }
        followers
    }

    /// Delivers events in their order; those known already are passed over.
    pub(super) fn publish(&self, epoch: Epoch, entries: &[Entry]) -> Result<(), Gap> {
        for entry in entries {
            // Anew for each, since streams are opened and closed by threads that serve calls as well.
            let mut state = self.state.lock();
            match state.newest {
                Some((known, newest)) if known == epoch => {
                    if entry.position() <= newest {
                        continue;
                    }
                    if entry.previous() != newest {
                        return Err(Gap);
                    }
                }
                _ => return Err(Gap),
            }
            state.newest = Some((epoch, entry.position()));
            self.deliver(&mut state, epoch, entry);
        }
        Ok(())
    }

    fn deliver(&self, state: &mut State, epoch: Epoch, entry: &Entry) {
        let shown = entry
            .event()
            .map(|event| (event.user.clone(), frame::event(epoch, event)));
        if let Some((user, frame)) = &shown {
            let mut overflowed = Vec::new();
            let interested = state.by_user.get(user).into_iter().flatten();
            for slot in state.everyone.values().chain(interested) {
                match slot.push(entry.position(), frame) {
                    Pushed::Queued => drop(self.metrics.events_delivered.inc()),
                    Pushed::Overflowed => overflowed.push(Arc::clone(slot)),
                    Pushed::Ignored => {}
                }
            }
            self.metrics.streams_cut_off.inc_by(overflowed.len() as u64);
            for slot in &overflowed {
                state.schedule_finish(slot);
            }
        }
        if state.recent.len() == RECENT_LIMIT {
            state.recent.pop_front();
        }
        state.recent.push_back(Recent {
            position: entry.position(),
            previous: entry.previous(),
            at: entry.at(),
            shown,
        });
    }

    /// Opens a stream that does not follow yet.
    pub(super) fn open(&self, opening: Opening) -> Arc<Slot> {
        let mut state = self.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        let (mut closes_at, mut reason) = opening.closes;
        if let Some(end) = state.drained_at.map(until)
            && end < closes_at
        {
            (closes_at, reason) = (end, EndReason::Draining);
        }
        let slot = Arc::new(Slot::new(id, opening));
        state.wheel[wheel_place(id)].insert(id, Arc::clone(&slot));
        state.schedule(&slot, closes_at, Step::End(reason));
        self.metrics.streams.inc();
        slot
    }

    /// Ends a stream.
    pub(super) fn end(&self, slot: &Arc<Slot>, reason: EndReason) {
        if slot.end(reason) {
            self.state.lock().schedule_finish(slot);
        }
    }

    /// Forgets a stream.
    pub(super) fn close(&self, slot: &Arc<Slot>) {
        let mut state = self.state.lock();
        if state.wheel[wheel_place(slot.id)].remove(&slot.id).is_none() {
            return;
        }
        if let Some(closes_at) = state.closes_at.remove(&slot.id) {
            state.closing.remove(&(closes_at, slot.id));
        }
        state.unfollow(slot);
        self.metrics.streams.dec();
    }

    /// Lets a stream follow the live events after `cursor`, with those it missed first, none of
    /// which may be from before `oldest`.
    pub(super) fn join(
        &self,
        slot: &Arc<Slot>,
        cursor: Cursor,
        origin: Origin,
        oldest: Timestamp,
    ) -> Joined {
        let position = cursor.position;
        let mut state = self.state.lock();
        let Some((known, newest)) = state.newest else {
            return Joined::OtherEpoch;
        };
        if known != cursor.epoch {
            return Joined::OtherEpoch;
        }
        if !state.wheel[wheel_place(slot.id)].contains_key(&slot.id) {
            return Joined::Following;
        }
        if position > newest && origin == Origin::Claimed {
            return Joined::NotKept;
        }
        if position < newest {
            match state.missed(&slot.interest, position, oldest) {
                Missed::Frames(frames) => {
                    slot.feed(frames);
                }
                Missed::TooMany(frames, upto) => return Joined::Behind(frames, upto),
                Missed::NotKept => return Joined::NotKept,
                Missed::Unknown => return Joined::Unknown,
                Missed::Gone => return Joined::Gone,
            }
        }
        let follows_from = position.max(newest);
        slot.follow_from(follows_from, || {
            frame::ready(Cursor::at(known, follows_from), None)
        });
        state.follow(slot);
        Joined::Following
    }

    /// Ends the streams whose credential was withdrawn.
    pub(super) fn end_withdrawn(&self) {
        for place in 0..KEEP_ALIVE_TICKS {
            // In parts, since events wait meanwhile.
            let slots = self.withdrawn_at(place);
            for slot in &slots {
                self.end(slot, EndReason::TokenExpired);
            }
        }
    }

    fn withdrawn_at(&self, place: usize) -> Vec<Arc<Slot>> {
        let state = self.state.lock();
        let slots = state.wheel[place].values();
        slots.filter(|slot| slot.is_withdrawn()).cloned().collect()
    }

    /// Sends the comments and ends the streams whose time has come.
    pub(crate) fn tick(&self) {
        let mut state = self.state.lock();
        state.take_steps(Instant::now());
        state.tick = (state.tick + 1) % KEEP_ALIVE_TICKS;
        let newest = state.newest.map(|(_, newest)| newest).unwrap_or_default();
        let ready = state
            .newest
            .map(|(epoch, newest)| frame::ready(Cursor::at(epoch, newest), None));
        for slot in state.wheel[state.tick].values() {
            slot.keep_alive(newest, ready.as_ref());
        }
    }

    /// Spreads the ends of all streams over `time`, also of those that are still being opened, so
    /// that their readers do not all reconnect at once.
    pub(crate) fn drain(&self, time: Duration) {
        let mut state = self.state.lock();
        let drained_at = Instant::now() + time;
        state.drained_at = Some(drained_at);
        state.end_patience = time.mul_f64(END_PART_OF_DRAIN).min(END_PATIENCE);
        let open = std::mem::take(&mut state.closing);
        for ((mut closes_at, _), (slot, mut step)) in open {
            let end = until(drained_at);
            if end < closes_at && matches!(step, Step::End(_)) {
                (closes_at, step) = (end, Step::End(EndReason::Draining));
            }
            state.schedule(&slot, closes_at, step);
        }
    }
}

enum Missed {
    Frames(Vec<Bytes>),
    TooMany(Vec<Bytes>, Position),
    NotKept,
    Unknown,
    Gone,
}

impl State {
    /// Sets when the stream takes its next step, in the place of what was set before.
    fn schedule(&mut self, slot: &Arc<Slot>, at: Instant, step: Step) {
        if let Some(before) = self.closes_at.insert(slot.id, at) {
            self.closing.remove(&(before, slot.id));
        }
        let next = (Arc::clone(slot), step);
        self.closing.insert((at, slot.id), next);
    }

    /// Gives the reader of a stream that has ended some time to hear why, if it is not closed yet.
    fn schedule_finish(&mut self, slot: &Arc<Slot>) {
        if self.closes_at.contains_key(&slot.id) {
            let at = Instant::now() + self.end_patience;
            self.schedule(slot, at, Step::Finish);
        }
    }

    fn take_steps(&mut self, now: Instant) {
        while let Some(entry) = self.closing.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let (slot, step) = entry.remove();
            self.closes_at.remove(&slot.id);
            let next = match step {
                Step::End(reason) => {
                    slot.end(reason);
                    Step::DropQueues
                }
                Step::DropQueues => {
                    slot.drop_queues();
                    Step::Finish
                }
                Step::Finish => {
                    slot.finish();
                    continue;
                }
            };
            self.schedule(&slot, now + self.end_patience, next);
        }
    }

    fn follow(&mut self, slot: &Arc<Slot>) {
        match &slot.interest {
            Interest::Everyone => {
                self.everyone.insert(slot.id, Arc::clone(slot));
            }
            Interest::Users(users) => {
                for user in users {
                    let streams = self.by_user.entry(user.clone()).or_default();
                    streams.push(Arc::clone(slot));
                }
            }
        }
    }

    fn unfollow(&mut self, slot: &Arc<Slot>) {
        match &slot.interest {
            Interest::Everyone => {
                self.everyone.remove(&slot.id);
            }
            Interest::Users(users) => {
                for user in users {
                    if let Some(streams) = self.by_user.get_mut(user) {
                        streams.retain(|stream| stream.id != slot.id);
                        if streams.is_empty() {
                            self.by_user.remove(user);
                        }
                    }
                }
            }
        }
    }

    fn missed(&self, interest: &Interest, position: Position, oldest: Timestamp) -> Missed {
        let oldest_known = self.recent.front().map(|event| event.previous);
        if oldest_known.is_none_or(|oldest| position < oldest) {
            return Missed::NotKept;
        }
        let first = self
            .recent
            .partition_point(|event| event.position <= position);
        match self.recent.get(first) {
            Some(event) if event.previous != position => return Missed::Unknown,
            Some(event) if event.at < oldest => return Missed::Gone,
            _ => {}
        }
        let mut frames = Vec::new();
        for event in self.recent.range(first..) {
            let Some((_, frame)) = event
                .shown
                .as_ref()
                .filter(|(user, _)| interest.includes(user))
            else {
                continue;
            };
            if frames.len() == JOIN_LIMIT {
                return Missed::TooMany(frames, event.previous);
            }
            frames.push(frame.clone());
        }
        Missed::Frames(frames)
    }
}

/// A random moment between now and `end`.
fn until(end: Instant) -> Instant {
    let now = Instant::now();
    now + end.saturating_duration_since(now).mul_f64(fastrand::f64())
}

fn wheel_place(id: u64) -> usize {
    (id % KEEP_ALIVE_TICKS as u64) as usize
}
