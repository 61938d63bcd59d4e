//! How a stream goes over to the live events: what is in the ring after its position comes first.

use std::sync::Arc;

use crate::events::hub::Hub;
use crate::events::hub::ring::{NotInRing, Ring};
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame;
use crate::events::subscriber::Subscriber;
use crate::model::{Epoch, Position, Timestamp};

/// How many missed events a stream may be handed while it joins, under the lock.
const JOIN_RANGE: u64 = 256;

/// Whether a position is known to be that of an event, or only claimed by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CursorOrigin {
    Server,
    Client,
}

/// The number of an entry in one generation of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryRef {
    pub(crate) generation: u64,
    pub(crate) number: u64,
}

/// What came of joining a stream to the live events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JoinOutcome {
    /// It follows, or is closed already and never will.
    Following,
    /// It missed more than is handed over at once, from there on.
    Behind(EntryRef),
    /// The position is newer than what this instance has heard of, and may be of no event.
    Ahead,
    /// No event has this position.
    Unknown,
    /// What it missed is older than what is kept, or than what may be resumed.
    Gone,
    /// The data set is another.
    OtherEpoch,
}

/// The ring is another one by now, or begins later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingChanged;

impl Hub {
    /// Lets a stream follow the live events after `cursor`, with those it missed first, none of
    /// which may be from before `oldest`.
    pub(in crate::events) fn join(
        &self,
        subscriber: &Arc<Subscriber>,
        cursor: Cursor,
        origin: CursorOrigin,
        oldest: Timestamp,
    ) -> JoinOutcome {
        let state = self.state.lock();
        let Some(heard) = state
            .heard
            .as_ref()
            .filter(|heard| heard.epoch == cursor.epoch)
        else {
            return JoinOutcome::OtherEpoch;
        };
        if !state.lifetimes.has(subscriber) {
            return JoinOutcome::Following;
        }
        let (ring, generation) = (&heard.ring, state.generation);
        let follow = |missed, position| {
            let ready = || frame::ready(Cursor::at(cursor.epoch, position), None);
            subscriber.follow(generation, position, missed, ready);
            JoinOutcome::Following
        };
        if cursor.position > ring.newest() {
            return match origin {
                // The store held it a moment ago, unless that was before the history went back.
                CursorOrigin::Server if cursor.position > heard.furthest => {
                    follow(Vec::new(), cursor.position)
                }
                CursorOrigin::Server | CursorOrigin::Client => JoinOutcome::Ahead,
            };
        }
        let number = match ring.number_after(cursor.position) {
            Ok(number) => number,
            Err(NotInRing::Gone) => return JoinOutcome::Gone,
            Err(NotInRing::Unknown) => return JoinOutcome::Unknown,
        };
        if ring.at(number).is_some_and(|at| at < oldest) {
            return JoinOutcome::Gone;
        }
        if ring.end() - number > JOIN_RANGE {
            return JoinOutcome::Behind(EntryRef { generation, number });
        }
        let wanted = (number..ring.end()).filter(|number| {
            ring.user(*number)
                .is_some_and(|user| subscriber.interest.includes(user))
        });
        let missed = wanted.filter_map(|number| {
            let write = || Some(frame::event(heard.epoch, &ring.event(number)?));
            ring.frame(number).or_else(write)
        });
        follow(missed.collect(), ring.newest())
    }

    /// Reads the ring of this generation, for a moment that is bounded; fails where `from` is gone.
    pub(in crate::events) fn read<T>(
        &self,
        from: EntryRef,
        read: impl FnOnce(Epoch, &Ring) -> T,
    ) -> Result<T, RingChanged> {
        let state = self.state.lock();
        match &state.heard {
            Some(heard)
                if state.generation == from.generation && from.number >= heard.ring.first() =>
            {
                Ok(read(heard.epoch, &heard.ring))
            }
            _ => Err(RingChanged),
        }
    }

    /// The place after `position`, if the ring still goes back to it.
    pub(in crate::events) fn entry_after(
        &self,
        epoch: Epoch,
        position: Position,
    ) -> Result<EntryRef, RingChanged> {
        let state = self.state.lock();
        let heard = state.heard.as_ref().filter(|heard| heard.epoch == epoch);
        let number = heard.ok_or(RingChanged)?.ring.number_after(position);
        Ok(EntryRef {
            generation: state.generation,
            number: number.map_err(|_| RingChanged)?,
        })
    }
}
