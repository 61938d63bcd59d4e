//! Finds the place of a cursor in the ring.
//!
//! Two instances receive the events of different partitions in different orders. A client that resumes on another
//! instance may therefore have some events after the first one that it misses. These entries are the *skew*: from the
//! first missed entry to the last one that the client has. In the skew, a stream skips the events that the client has,
//! and the `id` of each other event is made for this stream alone. After the skew the client has exactly the entries
//! before any number, as every other stream of this instance, so that it can share their frames.

use crate::events::hub::ring::{NotInRing, Ring};
use crate::events::sse::cursor::{Cursor, Id};
use crate::model::{Epoch, Partition, PartitionSet, Position, Timestamp};

/// The place of a cursor in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// The number of the first missed entry.
    pub(crate) start: u64,
    /// The client has no entry from this number on. At most `start` if there is no skew.
    pub(crate) skew_end: u64,
}

/// Why a cursor has no place in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotLocated {
    /// A watched partition is not known.
    NotKnown,
    /// The cursor belongs to another data set.
    OtherEpoch,
    /// The missed events are older than the ring, or older than a client may resume.
    TooOld,
    /// No event has the position of the cursor.
    Unknown,
    /// A watched partition has begun a new data set.
    Lost,
    /// The cursor is newer than the local history, and may belong to no event.
    Ahead,
}

impl Ring {
    /// Finds the first entry that a client with this cursor misses. Only the watched partitions count. No missed event
    /// of a partition may be older than `oldest` of the partition.
    pub(crate) fn locate(
        &self,
        cursor: &Cursor,
        watched: &PartitionSet,
        oldest: impl Fn(Partition) -> Timestamp,
    ) -> Result<Located, NotLocated> {
        let mut located = Located {
            start: self.end(),
            skew_end: 0,
        };
        let mut is_ahead = false;
        for partition in self.partitions().all() {
            if !watched.contains(partition) {
                continue;
            }
            let (epoch, newest) = self.newest(partition).ok_or(NotLocated::NotKnown)?;
            if cursor.epoch().is_some_and(|of_cursor| of_cursor != epoch) {
                return Err(NotLocated::OtherEpoch);
            }
            let position = cursor.position(partition);
            if position > newest {
                is_ahead = true;
                continue;
            }
            let around = self.around(partition, position);
            let (last, missed) = around.map_err(|error| not_located(error, cursor))?;
            if let Some(last) = last {
                located.skew_end = located.skew_end.max(last + 1);
            }
            if let Some(missed) = missed {
                let oldest = oldest(partition);
                if self.written_at(missed).is_some_and(|at| at < oldest) {
                    return Err(NotLocated::TooOld);
                }
                located.start = located.start.min(missed);
            }
        }
        if is_ahead {
            return Err(NotLocated::Ahead);
        }
        Ok(located)
    }
}

fn not_located(error: NotInRing, cursor: &Cursor) -> NotLocated {
    match error {
        NotInRing::TooOld => NotLocated::TooOld,
        // The cursor names the data set, so its position belongs to no event.
        NotInRing::Lost if cursor.epoch().is_some() => NotLocated::Unknown,
        NotInRing::Lost => NotLocated::Lost,
        NotInRing::Unknown => NotLocated::Unknown,
    }
}

/// What one client has received, while it receives entries in the order of the ring.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// In a store with one partition.
    One(Epoch, Position),
    /// In each partition.
    Many(Vec<Position>),
}

impl Progress {
    /// Returns the progress of a client with this cursor.
    pub(crate) fn of(cursor: &Cursor) -> Self {
        match cursor {
            Cursor::One {
                epoch, position, ..
            } => Self::One(*epoch, *position),
            Cursor::Many { vector, .. } => Self::Many(vector.iter().collect()),
        }
    }

    /// Notes that the client receives an event. Returns false if the client has it already.
    pub(crate) fn advance(&mut self, partition: Partition, position: Position) -> bool {
        let before = match self {
            Self::One(_, before) => before,
            Self::Many(positions) => match positions.get_mut(partition.index()) {
                Some(before) => before,
                None => return false,
            },
        };
        let is_new = position > *before;
        if is_new {
            *before = position;
        }
        is_new
    }

    /// Returns the `id` of the event that the client received last.
    pub(crate) fn id(&self) -> Id<'_> {
        match self {
            Self::One(epoch, position) => Id::One(*epoch, *position),
            Self::Many(positions) => Id::Many(positions),
        }
    }
}
