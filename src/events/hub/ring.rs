//! The events of the recent past, kept in memory: what every resume is answered from.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry as MapEntry, HashMap};
use std::mem::size_of;
use std::time::Duration;

use bytes::Bytes;

use crate::model::{Entry, Position, PresenceEvent, Timestamp, Transition, UserId};

/// How many of the newest messages are kept as bytes, for the streams that join just behind them.
const FRAMES: usize = 512;

/// What a user takes beside its id: the id's header, its place in the map, and the room that a map
/// leaves free.
const USER_BYTES: usize = 72;

/// How many old entries one new entry pushes out at most, so that no step takes long.
const MOST_TRIMMED: usize = 8;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Entries that are older than this are dropped.
    pub(crate) span: Duration,
    /// About how many bytes the entries take together.
    pub(crate) bytes: usize,
}

/// The newest entries of the history, in order and without a gap.
///
/// Each entry has a number, which stays the same while the ring lives. The entries of one user are
/// linked, so that they are found without a look at those of others.
#[derive(Debug)]
pub(crate) struct Ring {
    bounds: Bounds,
    kept: VecDeque<Kept>,
    /// The number of the first entry.
    first: u64,
    /// The position before the first entry.
    floor: Position,
    newest_of: HashMap<UserId, u64>,
    /// The messages of the last entries, where they were written already.
    frames: VecDeque<Option<Bytes>>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    position: Position,
    at: Timestamp,
    shown: Option<(UserId, Transition)>,
    /// How many entries before this one the same user has another; zero where it has none.
    back: u32,
}

impl Ring {
    /// An empty ring, which begins after `floor`.
    pub(crate) fn after(floor: Position, bounds: Bounds) -> Self {
        Self {
            bounds,
            kept: VecDeque::new(),
            first: 0,
            floor,
            newest_of: HashMap::new(),
            frames: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether no older entry is worth to be read, because there would be no room or it is too old.
    pub(crate) fn is_full_at(&self, now: Timestamp) -> bool {
        let too_old = |kept: &Kept| kept.at < now.minus(self.bounds.span);
        self.bytes >= self.bounds.bytes || self.kept.front().is_some_and(too_old)
    }

    /// Puts an entry before all others. [`Ring::link`] has to follow the last of them.
    pub(crate) fn prepend(&mut self, entry: &Entry) {
        let kept = Kept::of(entry);
        self.bytes += kept.bytes();
        self.kept.push_front(kept);
        self.floor = entry.previous();
    }

    /// Links the entries of each user, after [`Ring::prepend`].
    pub(crate) fn link(&mut self) {
        self.bytes = 0;
        self.newest_of.clear();
        let kept = std::mem::take(&mut self.kept);
        self.kept.reserve(kept.len());
        for entry in kept {
            self.append(entry);
        }
    }

    /// Keeps a new entry, and forgets those that are too old or too many.
    pub(crate) fn push(&mut self, entry: &Entry, frame: Option<Bytes>) {
        self.append(Kept::of(entry));
        if self.frames.len() == FRAMES {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
        self.trim(entry.at());
    }

    /// Forgets some of the entries that are too old or too many.
    pub(crate) fn trim(&mut self, now: Timestamp) {
        for _ in 0..MOST_TRIMMED {
            // Of an empty ring nothing could be resumed, not even where nothing was missed.
            if self.kept.is_empty() || !self.is_full_at(now) {
                return;
            }
            self.pop();
        }
    }

    fn append(&mut self, mut kept: Kept) {
        let number = self.end();
        self.bytes += size_of::<Kept>();
        if let Some((user, _)) = &mut kept.shown {
            match self.newest_of.entry(user.clone()) {
                MapEntry::Occupied(mut newest) => {
                    // All entries of a user share one copy of its id.
                    *user = newest.key().clone();
                    let back = number - newest.insert(number);
                    kept.back = u32::try_from(back).unwrap_or(0);
                }
                MapEntry::Vacant(place) => {
                    self.bytes += USER_BYTES + user.as_str().len();
                    place.insert(number);
                    kept.back = 0;
                }
            }
        }
        self.kept.push_back(kept);
    }

    fn pop(&mut self) {
        let Some(kept) = self.kept.pop_front() else {
            return;
        };
        self.bytes -= size_of::<Kept>();
        if let Some((user, _)) = &kept.shown
            && self.newest_of.get(user) == Some(&self.first)
        {
            self.newest_of.remove(user);
            self.bytes -= USER_BYTES + user.as_str().len();
        }
        self.floor = kept.position;
        self.first += 1;
        while self.frames.len() > self.kept.len() {
            self.frames.pop_front();
        }
    }

    /// The number of the first entry.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next entry gets.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// The position of the newest entry, or the one before the ring.
    pub(crate) fn newest(&self) -> Position {
        self.kept.back().map_or(self.floor, |kept| kept.position)
    }

    /// The number of the first entry after `position`, unless the ring begins later or has no entry
    /// with exactly this position. The inner result says which.
    pub(crate) fn number_after(&self, position: Position) -> Result<u64, NotInRing> {
        if position < self.floor {
            return Err(NotInRing::Gone);
        }
        let after = self.kept.partition_point(|kept| kept.position <= position);
        if self.position_before_index(after) == position {
            Ok(self.first + after as u64)
        } else {
            Err(NotInRing::Unknown)
        }
    }

    /// Whether exactly this entry was heard of.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        let position = entry.position();
        let after = self.kept.partition_point(|kept| kept.position <= position);
        match after.checked_sub(1) {
            Some(index) => {
                self.position_before_index(after) == position
                    && self.position_before_index(index) == entry.previous()
            }
            // What came before it is not known any more.
            None => position == self.floor,
        }
    }

    /// The position of the entry before the one with this number.
    pub(crate) fn position_before(&self, number: u64) -> Position {
        self.position_before_index((number - self.first) as usize)
    }

    fn position_before_index(&self, index: usize) -> Position {
        let before = index
            .checked_sub(1)
            .and_then(|before| self.kept.get(before));
        before.map_or(self.floor, |kept| kept.position)
    }

    /// When the entry with this number was written.
    pub(crate) fn at(&self, number: u64) -> Option<Timestamp> {
        self.get(number).map(|kept| kept.at)
    }

    /// The event with this number, if its kind is known.
    pub(crate) fn event(&self, number: u64) -> Option<PresenceEvent> {
        let kept = self.get(number)?;
        let (user, transition) = kept.shown.as_ref()?;
        Some(PresenceEvent {
            position: kept.position,
            previous: self.position_before(number),
            user: user.clone(),
            at: kept.at,
            transition: *transition,
        })
    }

    /// The user of the event with this number, if its kind is known.
    pub(crate) fn user(&self, number: u64) -> Option<&UserId> {
        let (user, _) = self.get(number)?.shown.as_ref()?;
        Some(user)
    }

    /// The message of the event with this number, where it was kept.
    pub(crate) fn frame(&self, number: u64) -> Option<Bytes> {
        let from = self.end() - self.frames.len() as u64;
        let index = usize::try_from(number.checked_sub(from)?).ok()?;
        self.frames.get(index)?.clone()
    }

    /// The number of the newest event of `user`.
    pub(crate) fn newest_of(&self, user: &UserId) -> Option<u64> {
        self.newest_of.get(user).copied()
    }

    /// The number of the event of the same user before the one with this number.
    pub(crate) fn earlier(&self, number: u64) -> Option<u64> {
        let back = u64::from(self.get(number)?.back);
        let earlier = number - back;
        (back > 0 && earlier >= self.first).then_some(earlier)
    }

    fn get(&self, number: u64) -> Option<&Kept> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.kept.get(index)
    }
}

/// Why a position is no place to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInRing {
    /// The ring begins later.
    Gone,
    /// No entry has this position.
    Unknown,
}

impl Kept {
    fn of(entry: &Entry) -> Self {
        let shown = entry
            .event()
            .map(|event| (event.user.clone(), event.transition));
        Self {
            position: entry.position(),
            at: entry.at(),
            shown,
            back: 0,
        }
    }

    /// What it takes before it is linked, each with an id of its own.
    fn bytes(&self) -> usize {
        let user = self
            .shown
            .as_ref()
            .map_or(0, |(user, _)| user.as_str().len());
        size_of::<Self>() + USER_BYTES + user
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Position;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const MANY: Bounds = Bounds {
        span: Duration::from_secs(1_000),
        bytes: usize::MAX,
    };

    fn position(number: usize) -> Position {
        Position {
            millis: number as u64,
            sequence: 0,
        }
    }

    /// The entry with this number, of one of ten users; every tenth has an unknown kind.
    fn entry(number: usize, user: u8) -> Entry {
        let (position, previous) = (position(number + 1), position(number));
        if user == 0 {
            return Entry::Unknown { position, previous };
        }
        Entry::Event(PresenceEvent {
            position,
            previous,
            user: UserId::new(&format!("user-{user}")).expect("an id"),
            at: Timestamp::from_millis(position.millis),
            transition: Transition::Online,
        })
    }

    /// The numbers of all entries of `user`, by its links.
    fn linked(ring: &Ring, user: &UserId) -> Vec<u64> {
        let numbers = std::iter::successors(ring.newest_of(user), |number| ring.earlier(*number));
        let mut numbers: Vec<_> = numbers.collect();
        numbers.reverse();
        numbers
    }

    proptest! {
        #[test]
        fn the_links_of_a_user_lead_to_all_its_entries_that_are_kept(
            users in vec(0_u8..10, 1..200),
            filled in 0_usize..100,
            bytes in 500_usize..20_000,
        ) {
            let bounds = Bounds { bytes, ..MANY };
            let entries: Vec<_> = users.iter().enumerate().map(|(number, user)| entry(number, *user)).collect();
            let (old, new) = entries.split_at(filled.min(entries.len()));
            let mut ring = Ring::after(position(old.len()), bounds);
            for entry in old.iter().rev() {
                ring.prepend(entry);
            }
            ring.link();
            for entry in new {
                ring.push(entry, None);
            }
            let kept: Vec<_> = (ring.first()..ring.end()).collect();
            let first = users.len() - kept.len();
            for user in 1..10 {
                let id = UserId::new(&format!("user-{user}")).expect("an id");
                let expected = kept.iter().filter(|number| users[first + (**number - kept[0]) as usize] == user);
                prop_assert_eq!(linked(&ring, &id), expected.copied().collect::<Vec<_>>());
            }
            prop_assert_eq!(ring.newest(), position(users.len()));
            for (number, known) in entries.iter().enumerate().skip(first) {
                prop_assert!(ring.has(known));
                let (position, previous) = (known.position(), position(number + 1_000));
                let other = Entry::Unknown { position, previous };
                prop_assert!(!ring.has(&other));
            }
            for place in 0..=users.len() {
                let found = ring.number_after(position(place));
                let expected = place.checked_sub(first).map(|after| ring.first() + after as u64);
                prop_assert_eq!(found, expected.ok_or(NotInRing::Gone));
            }
        }
    }

    #[test]
    fn what_is_too_old_or_too_much_is_forgotten_and_its_bytes_are_free_again() {
        let bounds = Bounds {
            span: Duration::from_millis(50),
            bytes: usize::MAX,
        };
        let mut ring = Ring::after(position(0), bounds);
        for number in 0..1_000 {
            ring.push(&entry(number, 1 + (number % 9) as u8), None);
        }
        assert!((40..=60).contains(&(ring.end() - ring.first())));
        while ring.end() > ring.first() {
            ring.pop();
        }
        assert_eq!((ring.bytes, ring.newest_of.len()), (0, 0));
        assert_eq!(ring.number_after(position(1_000)), Ok(1_000));
        assert_eq!(ring.number_after(position(999)), Err(NotInRing::Gone));
        assert_eq!(ring.number_after(position(1_001)), Err(NotInRing::Unknown));
    }
}
