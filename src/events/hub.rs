//! Who is interested in whom, and the events of the recent past.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Cursor;
use super::frame::{self, KEEP_ALIVE};
use super::stream::{End, Interest, Opening, Pushed, Slot};
use crate::presence::{Epoch, Position, PresenceEvent, Timestamp, UserId};
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
    closing: BTreeMap<(Instant, u64), Arc<Slot>>,
    closes_at: HashMap<u64, Instant>,
    /// Set by a shutdown: when the last stream has to end.
    drained_at: Option<Instant>,
    next_id: u64,
}

#[derive(Debug)]
struct Recent {
    position: Position,
    previous: Position,
    user: UserId,
    at: Timestamp,
    frame: Bytes,
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
    pub(super) fn publish(&self, epoch: Epoch, events: &[PresenceEvent]) -> Result<(), Gap> {
        for event in events {
            // Anew for each, since streams are opened and closed by threads that serve calls as well.
            let mut state = self.state.lock();
            match state.newest {
                Some((known, newest)) if known == epoch => {
                    if event.position <= newest {
                        continue;
                    }
                    if event.previous != newest {
                        return Err(Gap);
                    }
                }
                _ => return Err(Gap),
            }
            state.newest = Some((epoch, event.position));
            self.deliver(&mut state, epoch, event);
        }
        Ok(())
    }

    fn deliver(&self, state: &mut State, epoch: Epoch, event: &PresenceEvent) {
        let frame = frame::event(epoch, event);
        let interested = state.by_user.get(&event.user).into_iter().flatten();
        for slot in state.everyone.values().chain(interested) {
            match slot.push(event.position, &frame) {
                Pushed::Queued => self.metrics.events_delivered.inc(),
                Pushed::Overflowed => self.metrics.streams_cut_off.inc(),
                Pushed::Ignored => 0,
            };
        }
        if state.recent.len() == RECENT_LIMIT {
            state.recent.pop_front();
        }
        state.recent.push_back(Recent {
            position: event.position,
            previous: event.previous,
            user: event.user.clone(),
            at: event.at,
            frame,
        });
    }

    /// Opens a stream that does not follow yet.
    pub(super) fn open(&self, opening: Opening) -> Arc<Slot> {
        let mut state = self.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        let closes_at = match state.drained_at {
            Some(drained_at) => opening.closes_at.min(until(drained_at)),
            None => opening.closes_at,
        };
        let slot = Arc::new(Slot::new(id, opening));
        state.wheel[wheel_place(id)].insert(id, Arc::clone(&slot));
        state.closing.insert((closes_at, id), Arc::clone(&slot));
        state.closes_at.insert(id, closes_at);
        self.metrics.streams.inc();
        slot
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
                Missed::Frames(frames) => drop(slot.feed(frames)),
                Missed::TooMany(frames, upto) => return Joined::Behind(frames, upto),
                Missed::NotKept => return Joined::NotKept,
                Missed::Unknown => return Joined::Unknown,
                Missed::Gone => return Joined::Gone,
            }
        }
        slot.follow_from(position.max(newest));
        state.follow(slot);
        Joined::Following
    }

    /// Ends the streams whose credential was withdrawn.
    pub(super) fn end_withdrawn(&self) {
        for place in 0..KEEP_ALIVE_TICKS {
            // In parts, since events wait meanwhile.
            for slot in self.state.lock().wheel[place].values() {
                if slot.is_withdrawn() {
                    slot.end(End::Due);
                }
            }
        }
    }

    /// Sends the comments and ends the streams whose time has come.
    pub(crate) fn tick(&self) {
        let mut state = self.state.lock();
        let now = Instant::now();
        while let Some(entry) = state.closing.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let slot = entry.remove();
            state.closes_at.remove(&slot.id);
            slot.end(End::Due);
        }
        state.tick = (state.tick + 1) % KEEP_ALIVE_TICKS;
        let (newest, moved) = match state.newest {
            Some((epoch, newest)) => (newest, frame::keep_alive_at(Cursor::at(epoch, newest))),
            None => (Position::START, KEEP_ALIVE),
        };
        for slot in state.wheel[state.tick].values() {
            slot.keep_alive(newest, &moved, &KEEP_ALIVE);
        }
    }

    /// Spreads the ends of all streams over `time`, also of those that are still being opened, so
    /// that their readers do not all reconnect at once.
    pub(crate) fn drain(&self, time: Duration) {
        let mut state = self.state.lock();
        let drained_at = Instant::now() + time;
        state.drained_at = Some(drained_at);
        let open = std::mem::take(&mut state.closing);
        for ((closes_at, id), slot) in open {
            let closes_at = closes_at.min(until(drained_at));
            state.closes_at.insert(id, closes_at);
            state.closing.insert((closes_at, id), slot);
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
            if interest.includes(&event.user) {
                if frames.len() == JOIN_LIMIT {
                    return Missed::TooMany(frames, event.previous);
                }
                frames.push(event.frame.clone());
            }
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
