//! The recent events in memory. Every resume is answered from the ring.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry as MapEntry, HashMap};
use std::mem::size_of;
use std::time::Duration;

use crate::events::sse::frame::Frame;
use crate::model::{Entry, Position, PresenceEvent, Timestamp, Transition, UserId};

/// Newest entries that keep their frame, for streams that join just behind them.
const FRAMES: usize = 512;

/// The bytes of a user in addition to the text of its id: the header of the id, its entry in the map, and the free
/// space of the map.
const USER_BYTES: usize = 72;

/// Old entries that one new entry evicts at most, so that each push is short.
const EVICTED_PER_PUSH: usize = 8;

/// The bounds of a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Older entries are evicted.
    pub(crate) span: Duration,
    /// Approximate bytes of all entries.
    pub(crate) bytes: usize,
}

/// The newest entries of the history, in order and without a gap.
///
/// Each entry has a number that never changes. Each entry links to the previous entry of the same
/// user, so that the entries of one user are found without a scan.
#[derive(Debug)]
pub(crate) struct Ring {
    bounds: Bounds,
    entries: VecDeque<RingEntry>,
    /// The number of the first entry.
    first: u64,
    /// The position before the first entry.
    floor: Position,
    newest_of: HashMap<UserId, u64>,
    /// The frames of the newest entries. An entry has no frame if no subscriber was interested in
    /// it.
    frames: VecDeque<Option<Frame>>,
    bytes: usize,
}

#[derive(Debug)]
struct RingEntry {
    position: Position,
    at: Timestamp,
    change: Option<(UserId, Transition)>,
    /// Distance to the previous entry of the same user. Zero if there is none.
    distance: u32,
}

impl Ring {
    /// Returns an empty ring that begins after `floor`.
    pub(crate) fn after(floor: Position, bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: VecDeque::new(),
            first: 0,
            floor,
            newest_of: HashMap::new(),
            frames: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether older entries do not belong in the ring, because it is full or they are too old.
    pub(crate) fn is_full_at(&self, now: Timestamp) -> bool {
        let too_old = |kept: &RingEntry| kept.at < now.minus(self.bounds.span);
        self.bytes >= self.bounds.bytes || self.entries.front().is_some_and(too_old)
    }

    /// Adds an entry before all others. Call [`Ring::link`] after the last one.
    pub(crate) fn prepend(&mut self, entry: &Entry) {
        let kept = RingEntry::of(entry);
        self.bytes += kept.bytes();
        self.entries.push_front(kept);
        self.floor = entry.previous();
    }

    /// Links the entries of each user, after [`Ring::prepend`].
    pub(crate) fn link(&mut self) {
        self.bytes = 0;
        self.newest_of.clear();
        let kept = std::mem::take(&mut self.entries);
        self.entries.reserve(kept.len());
        for entry in kept {
            self.append(entry);
        }
    }

    /// Appends a new entry, and evicts entries beyond the bounds.
    pub(crate) fn push(&mut self, entry: &Entry, frame: Option<Frame>) {
        self.append(RingEntry::of(entry));
        if self.frames.len() == FRAMES {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
        self.evict(entry.at());
    }

    /// Evicts some entries beyond the bounds.
    pub(crate) fn evict(&mut self, now: Timestamp) {
        for _ in 0..EVICTED_PER_PUSH {
            if self.entries.is_empty() || !self.is_full_at(now) {
                return;
            }
            self.pop();
        }
    }

    fn append(&mut self, mut kept: RingEntry) {
        let number = self.end();
        self.bytes += size_of::<RingEntry>();
        if let Some((user, _)) = &mut kept.change {
            match self.newest_of.entry(user.clone()) {
                MapEntry::Occupied(mut newest) => {
                    // All entries of a user share one copy of its id.
                    *user = newest.key().clone();
                    let distance = number - newest.insert(number);
                    kept.distance = u32::try_from(distance).unwrap_or(0);
                }
                MapEntry::Vacant(place) => {
                    self.bytes += USER_BYTES + user.as_str().len();
                    place.insert(number);
                    kept.distance = 0;
                }
            }
        }
        self.entries.push_back(kept);
    }

    fn pop(&mut self) {
        let Some(kept) = self.entries.pop_front() else {
            return;
        };
        self.bytes -= size_of::<RingEntry>();
        if let Some((user, _)) = &kept.change
            && self.newest_of.get(user) == Some(&self.first)
        {
            self.newest_of.remove(user);
            self.bytes -= USER_BYTES + user.as_str().len();
        }
        self.floor = kept.position;
        self.first += 1;
        while self.frames.len() > self.entries.len() {
            self.frames.pop_front();
        }
    }

    /// Returns the number of the first entry.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number that the next entry gets.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Returns the position of the newest entry, or the floor of an empty ring.
    pub(crate) fn newest(&self) -> Position {
        self.entries.back().map_or(self.floor, |kept| kept.position)
    }

    /// Returns the number of the first entry after `position`. Fails if the ring begins later, or
    /// if no entry has exactly this position.
    pub(crate) fn number_after(&self, position: Position) -> Result<u64, NotInRing> {
        if position < self.floor {
            return Err(NotInRing::TooOld);
        }
        let after = self
            .entries
            .partition_point(|kept| kept.position <= position);
        if self.position_before_index(after) == position {
            Ok(self.first + after as u64)
        } else {
            Err(NotInRing::Unknown)
        }
    }

    /// Whether the ring received exactly this entry.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        let position = entry.position();
        let after = self
            .entries
            .partition_point(|kept| kept.position <= position);
        match after.checked_sub(1) {
            Some(index) => {
                self.position_before_index(after) == position
                    && self.position_before_index(index) == entry.previous()
            }
            // The predecessor of the floor is unknown.
            None => position == self.floor,
        }
    }

    /// Returns the position before the entry with this number.
    pub(crate) fn position_before(&self, number: u64) -> Position {
        self.position_before_index((number - self.first) as usize)
    }

    fn position_before_index(&self, index: usize) -> Position {
        let before = index
            .checked_sub(1)
            .and_then(|before| self.entries.get(before));
        before.map_or(self.floor, |kept| kept.position)
    }

    /// Returns when the entry with this number was written.
    pub(crate) fn written_at(&self, number: u64) -> Option<Timestamp> {
        self.get(number).map(|kept| kept.at)
    }

    /// Returns the event with this number, unless its type is unknown.
    pub(crate) fn event(&self, number: u64) -> Option<PresenceEvent> {
        let kept = self.get(number)?;
        let (user, transition) = kept.change.as_ref()?;
        Some(PresenceEvent {
            position: kept.position,
            previous: self.position_before(number),
            user: user.clone(),
            at: kept.at,
            transition: *transition,
        })
    }

    /// Returns the user of the event with this number, unless its type is unknown.
    pub(crate) fn user(&self, number: u64) -> Option<&UserId> {
        let (user, _) = self.get(number)?.change.as_ref()?;
        Some(user)
    }

    /// Returns the frame of the event with this number, if the ring kept it.
    pub(crate) fn frame(&self, number: u64) -> Option<Frame> {
        let from = self.end() - self.frames.len() as u64;
        let index = usize::try_from(number.checked_sub(from)?).ok()?;
        self.frames.get(index)?.clone()
    }

    /// Returns the number of the newest event of `user`.
    pub(crate) fn newest_of(&self, user: &UserId) -> Option<u64> {
        self.newest_of.get(user).copied()
    }

    /// Returns the number of the previous event of the same user.
    pub(crate) fn previous_of_user(&self, number: u64) -> Option<u64> {
        let distance = u64::from(self.get(number)?.distance);
        let previous_of_user = number - distance;
        (distance > 0 && previous_of_user >= self.first).then_some(previous_of_user)
    }

    fn get(&self, number: u64) -> Option<&RingEntry> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get(index)
    }
}

/// Why a position cannot be resumed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInRing {
    /// The ring begins later.
    TooOld,
    /// No entry has this position.
    Unknown,
}

impl RingEntry {
    fn of(entry: &Entry) -> Self {
        let change = entry
            .event()
            .map(|event| (event.user.clone(), event.transition));
        Self {
            position: entry.position(),
            at: entry.at(),
            change,
            distance: 0,
        }
    }

    /// The bytes of the entry before it is linked, while each entry has its own copy of the id.
    fn bytes(&self) -> usize {
        let user = self
            .change
            .as_ref()
            .map_or(0, |(user, _)| user.as_str().len());
        size_of::<Self>() + USER_BYTES + user
    }
}

#[cfg(test)]
mod tests;
