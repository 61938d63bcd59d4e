//! The history of the embedded store: bounded by time, and by bytes.

use std::collections::VecDeque;
use std::mem::size_of;

use crate::model::{Entry, Position, Timestamp, UserId};

/// The number of events in one allocation. Chunks of one size are freed as the history moves on, and a growing history
/// copies none of them.
const CHUNK: usize = 1_024;

/// The bytes of an id in addition to its text: two reference counts.
const ID_BYTES: u64 = 16;

/// The newest events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Events {
    chunks: VecDeque<VecDeque<Entry>>,
    bytes: u64,
}

impl Events {
    /// Appends an event, and drops the oldest events while the history has more than `max_bytes`.
    pub(super) fn push(&mut self, entry: Entry, max_bytes: u64) {
        self.bytes += bytes(&entry);
        match self.chunks.back_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => chunk.push_back(entry),
            None => {
                let mut chunk = VecDeque::with_capacity(CHUNK);
                chunk.push_back(entry);
                self.chunks.push_back(chunk);
            }
        }
        while self.bytes > max_bytes {
            self.drop_oldest();
        }
    }

    /// Drops the events from before `oldest_kept`.
    pub(super) fn trim(&mut self, oldest_kept: Timestamp) {
        while self.oldest().is_some_and(|entry| entry.at() < oldest_kept) {
            self.drop_oldest();
        }
    }

    /// The events after `position`.
    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = &Entry> {
        let is_before = |entry: &Entry| entry.position() <= position;
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.back().is_none_or(is_before));
        let first = self.chunks.get(chunk);
        let first = first.map(|first| first.range(first.partition_point(is_before)..));
        let rest = self.chunks.iter().skip(chunk + 1).flatten();
        first.into_iter().flatten().chain(rest)
    }

    /// The events before `position`, or all of them, newest first.
    pub(super) fn before(&self, position: Option<Position>) -> impl Iterator<Item = &Entry> {
        let is_before =
            move |entry: &Entry| position.is_none_or(|position| entry.position() < position);
        let whole = self
            .chunks
            .partition_point(|chunk| chunk.back().is_none_or(is_before));
        let last = self.chunks.get(whole);
        let last = last.map(|last| last.range(..last.partition_point(is_before)).rev());
        let rest = self.chunks.range(..whole).rev();
        let rest = rest.flat_map(|chunk| chunk.iter().rev());
        last.into_iter().flatten().chain(rest)
    }

    pub(super) fn oldest(&self) -> Option<&Entry> {
        self.chunks.front()?.front()
    }

    fn drop_oldest(&mut self) {
        let Some(chunk) = self.chunks.front_mut() else {
            return;
        };
        if let Some(entry) = chunk.pop_front() {
            self.bytes -= bytes(&entry);
        }
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
    }
}

/// The bytes of an entry, as if its ids were not shared.
fn bytes(entry: &Entry) -> u64 {
    let heap = match entry {
        Entry::Event(event) => event.change.memory() as u64 + id_bytes(&event.user),
        Entry::Group(event) => event.bytes() as u64,
        Entry::Unknown { .. } => 0,
    };
    size_of::<Entry>() as u64 + heap
}

/// The bytes of an id on the heap.
pub(super) fn id_bytes(user: &UserId) -> u64 {
    ID_BYTES + (user.as_str().len() as u64).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PresenceEvent, UserChange};

    fn event(millis: u64) -> Entry {
        let position = |millis| Position {
            millis,
            sequence: 0,
        };
        Entry::Event(PresenceEvent {
            position: position(millis),
            previous: position(millis - 1),
            user: UserId::new("alice").expect("an id"),
            at: Timestamp::from_millis(millis),
            change: UserChange::Online { state: None },
        })
    }

    fn kept(events: &Events, after: u64) -> Vec<u64> {
        let after = events.after(event(after + 1).previous());
        after.map(|event| event.at().as_millis()).collect()
    }

    #[test]
    fn it_is_read_from_any_event_forward_and_backward_across_chunks() {
        let mut events = Events::default();
        let last = 3 * CHUNK as u64 + 7;
        (1..=last).for_each(|at| events.push(event(at), u64::MAX));
        let chunk = CHUNK as u64;
        for after in [
            0,
            1,
            chunk - 1,
            chunk,
            chunk + 1,
            3 * chunk,
            last - 1,
            last,
            last + 5,
        ] {
            let expected: Vec<u64> = (after + 1..=last).collect();
            assert_eq!(kept(&events, after), expected, "after {after}");
            let position = event(after + 1).previous();
            let before = events.before(Some(position));
            let before: Vec<_> = before.map(|event| event.at().as_millis()).collect();
            let expected: Vec<u64> = (1..after.min(last + 1)).rev().collect();
            assert_eq!(before, expected, "before {after}");
        }
    }

    #[test]
    fn the_oldest_events_are_dropped_by_time_and_by_bytes() {
        let mut events = Events::default();
        (1..=5_000).for_each(|at| events.push(event(at), 100 * bytes(&event(1))));
        assert_eq!(kept(&events, 0), (4_901..=5_000).collect::<Vec<_>>());
        events.trim(Timestamp::from_millis(4_999));
        assert_eq!(kept(&events, 0), [4_999, 5_000]);
        events.trim(Timestamp::from_millis(9_999));
        assert_eq!((kept(&events, 0), events.bytes), (vec![], 0));
        assert!(events.chunks.is_empty());
    }
}
