//! Switches a stream from its backlog to live events without a gap.

use std::sync::Arc;

use crate::events::hub::Hub;
use crate::events::hub::ring::{NotInRing, Ring};
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame;
use crate::events::subscriber::Subscriber;
use crate::model::{Epoch, Position, Timestamp};

/// Missed events that a stream can receive while it joins. The hub is locked meanwhile.
const JOIN_EVENTS: u64 = 256;

/// Where a cursor comes from. A cursor of the server is the position of a real event; a cursor of a
/// client may be invented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CursorOrigin {
    Server,
    Client,
}

/// An entry of the ring, by the generation of the ring and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryRef {
    pub(crate) generation: u64,
    pub(crate) number: u64,
}

/// The result of an attempt to join the live events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JoinOutcome {
    /// The stream is live.
    Live,
    /// The stream is closed.
    Closed,
    /// The stream missed more than [`JOIN_EVENTS`] events, beginning with this entry.
    Behind(EntryRef),
    /// The cursor is newer than the local history, and may belong to no event.
    Ahead,
    /// No event has this position.
    Unknown,
    /// The missed events are older than the ring, or older than a client may resume.
    TooOld,
    /// The cursor belongs to another data set.
    OtherEpoch,
}

/// The ring was replaced, or no longer reaches back to the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingChanged;

impl Hub {
    /// Makes a stream live after `cursor`. The events it missed come first; none of them may be
    /// older than `oldest`.
    pub(crate) fn join(
        &self,
        subscriber: &Arc<Subscriber>,
        cursor: Cursor,
        origin: CursorOrigin,
        oldest: Timestamp,
    ) -> JoinOutcome {
        let state = self.state.lock();
        let Some(history) = state
            .history
            .as_ref()
            .filter(|history| history.epoch == cursor.epoch)
        else {
            return JoinOutcome::OtherEpoch;
        };
        if !state.lifetimes.has(subscriber) {
            return JoinOutcome::Closed;
        }
        let (ring, generation) = (&history.ring, state.generation);
        let go_live = |missed, position| {
            let ready = || frame::ready(Cursor::at(cursor.epoch, position), None);
            subscriber.go_live(generation, position, missed, ready);
            JoinOutcome::Live
        };
        if cursor.position > ring.newest() {
            return match origin {
                // The store held this position a moment ago, unless its history was truncated
                // since.
                CursorOrigin::Server if cursor.position > history.furthest => {
                    go_live(Vec::new(), cursor.position)
                }
                CursorOrigin::Server | CursorOrigin::Client => JoinOutcome::Ahead,
            };
        }
        let number = match ring.number_after(cursor.position) {
            Ok(number) => number,
            Err(NotInRing::TooOld) => return JoinOutcome::TooOld,
            Err(NotInRing::Unknown) => return JoinOutcome::Unknown,
        };
        if ring.written_at(number).is_some_and(|at| at < oldest) {
            return JoinOutcome::TooOld;
        }
        if ring.end() - number > JOIN_EVENTS {
            return JoinOutcome::Behind(EntryRef { generation, number });
        }
        let interesting = (number..ring.end()).filter(|number| {
            ring.user(*number)
                .is_some_and(|user| subscriber.interest.includes(user))
        });
        let missed = interesting.filter_map(|number| {
            let write = || Some(frame::event(history.epoch, &ring.event(number)?));
            ring.frame(number).or_else(write)
        });
        go_live(missed.collect(), ring.newest())
    }

    /// Calls `read` with the ring while the hub is locked; `read` must be short. Fails if the entry
    /// `from` is gone.
    pub(crate) fn read<T>(
        &self,
        from: EntryRef,
        read: impl FnOnce(Epoch, &Ring) -> T,
    ) -> Result<T, RingChanged> {
        let state = self.state.lock();
        match &state.history {
            Some(history)
                if state.generation == from.generation && from.number >= history.ring.first() =>
            {
                Ok(read(history.epoch, &history.ring))
            }
            _ => Err(RingChanged),
        }
    }

    /// Returns the first entry after `position`, if the ring still reaches back to it.
    pub(crate) fn entry_after(
        &self,
        epoch: Epoch,
        position: Position,
    ) -> Result<EntryRef, RingChanged> {
        let state = self.state.lock();
        let history = state
            .history
            .as_ref()
            .filter(|history| history.epoch == epoch);
        let number = history.ok_or(RingChanged)?.ring.number_after(position);
        Ok(EntryRef {
            generation: state.generation,
            number: number.map_err(|_| RingChanged)?,
        })
    }
}
