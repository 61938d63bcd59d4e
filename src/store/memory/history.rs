//! The history of the embedded store: bounded by time, and by bytes.

use std::collections::VecDeque;
use std::mem::size_of;

use crate::model::{Position, PresenceEvent, Timestamp, UserId};

/// Events that share one piece of memory. Pieces of one size are given back as the history moves
/// on, and none is ever copied because there are more events.
const PIECE: usize = 1_024;

/// What one id takes beside its text: two counts of references.
const ID_BYTES: u64 = 16;

/// The newest events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Events {
    pieces: VecDeque<VecDeque<PresenceEvent>>,
    bytes: u64,
}

impl Events {
    /// Appends an event, and drops the oldest for as long as there are more than `most_bytes`.
    pub(super) fn push(&mut self, event: PresenceEvent, most_bytes: u64) {
        self.bytes += bytes(&event);
        match self.pieces.back_mut().filter(|piece| piece.len() < PIECE) {
            Some(piece) => piece.push_back(event),
            None => {
                let mut piece = VecDeque::with_capacity(PIECE);
                piece.push_back(event);
                self.pieces.push_back(piece);
            }
        }
        while self.bytes > most_bytes {
            self.drop_oldest();
        }
    }

    /// Drops what is from before `oldest_kept`.
    pub(super) fn trim(&mut self, oldest_kept: Timestamp) {
        while self.oldest().is_some_and(|event| event.at < oldest_kept) {
            self.drop_oldest();
        }
    }

    /// The events after `position`.
    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = &PresenceEvent> {
        let is_before = |event: &PresenceEvent| event.position <= position;
        let piece = self
            .pieces
            .partition_point(|piece| piece.back().is_none_or(is_before));
        let first = self.pieces.get(piece);
        let first = first.map(|first| first.range(first.partition_point(is_before)..));
        let rest = self.pieces.iter().skip(piece + 1).flatten();
        first.into_iter().flatten().chain(rest)
    }

    /// The events before `position`, or all of them, newest first.
    pub(super) fn before(
        &self,
        position: Option<Position>,
    ) -> impl Iterator<Item = &PresenceEvent> {
        let is_before =
            move |event: &PresenceEvent| position.is_none_or(|position| event.position < position);
        let whole = self
            .pieces
            .partition_point(|piece| piece.back().is_none_or(is_before));
        let last = self.pieces.get(whole);
        let last = last.map(|last| last.range(..last.partition_point(is_before)).rev());
        let rest = self.pieces.range(..whole).rev();
        let rest = rest.flat_map(|piece| piece.iter().rev());
        last.into_iter().flatten().chain(rest)
    }

    fn oldest(&self) -> Option<&PresenceEvent> {
        self.pieces.front()?.front()
    }

    fn drop_oldest(&mut self) {
        let Some(piece) = self.pieces.front_mut() else {
            return;
        };
        if let Some(event) = piece.pop_front() {
            self.bytes -= bytes(&event);
        }
        if piece.is_empty() {
            self.pieces.pop_front();
        }
    }
}

/// What an event takes, as if nobody else held its user's id.
fn bytes(event: &PresenceEvent) -> u64 {
    size_of::<PresenceEvent>() as u64 + id_bytes(&event.user)
}

/// The memory behind an id.
pub(super) fn id_bytes(user: &UserId) -> u64 {
    ID_BYTES + (user.as_str().len() as u64).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transition;

    fn event(millis: u64) -> PresenceEvent {
        let position = |millis| Position {
            millis,
            sequence: 0,
        };
        PresenceEvent {
            position: position(millis),
            previous: position(millis - 1),
            user: UserId::new("alice").expect("an id"),
            at: Timestamp::from_millis(millis),
            transition: Transition::Online,
        }
    }

    fn kept(events: &Events, after: u64) -> Vec<u64> {
        let after = events.after(event(after + 1).previous);
        after.map(|event| event.at.as_millis()).collect()
    }

    #[test]
    fn it_is_read_from_any_event_on_and_back_across_its_pieces() {
        let mut events = Events::default();
        let last = 3 * PIECE as u64 + 7;
        (1..=last).for_each(|at| events.push(event(at), u64::MAX));
        let piece = PIECE as u64;
        for after in [
            0,
            1,
            piece - 1,
            piece,
            piece + 1,
            3 * piece,
            last - 1,
            last,
            last + 5,
        ] {
            let expected: Vec<u64> = (after + 1..=last).collect();
            assert_eq!(kept(&events, after), expected, "after {after}");
            let position = event(after + 1).previous;
            let before = events.before(Some(position));
            let before: Vec<_> = before.map(|event| event.at.as_millis()).collect();
            let expected: Vec<u64> = (1..after.min(last + 1)).rev().collect();
            assert_eq!(before, expected, "before {after}");
        }
    }

    #[test]
    fn the_oldest_go_first_by_time_and_by_bytes() {
        let mut events = Events::default();
        (1..=5_000).for_each(|at| events.push(event(at), 100 * bytes(&event(1))));
        assert_eq!(kept(&events, 0), (4_901..=5_000).collect::<Vec<_>>());
        events.trim(Timestamp::from_millis(4_999));
        assert_eq!(kept(&events, 0), [4_999, 5_000]);
        events.trim(Timestamp::from_millis(9_999));
        assert_eq!((kept(&events, 0), events.bytes), (vec![], 0));
        assert!(events.pieces.is_empty());
    }
}
