//! Switches a stream from its backlog to live events without a gap.

use std::sync::Arc;

use crate::events::hub::copies::Copies;
use crate::events::hub::locate::{Located, NotLocated, Progress};
use crate::events::hub::membership::Candidates;
use crate::events::hub::ring::Ring;
use crate::events::hub::{Hub, State};
use crate::events::interest::Interest;
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame::{self, Frame};
use crate::events::sse::payload::ResetReason;
use crate::events::subscriber::{Live, Subscriber};
use crate::model::{Epoch, GroupId, Partition, PartitionSet, Position, Timestamp};

/// Missed events that a stream can receive while it joins. The hub is locked meanwhile.
const JOIN_EVENTS: u64 = 256;

/// Where a cursor comes from. A cursor of the server has the positions of real events; a cursor of a
/// client may be invented. A client that reads a list page by page receives the changes of its groups like all other
/// missed messages, and is not reset because of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CursorOrigin {
    Server,
    Client,
    /// A list that has more messages.
    Page,
}

/// An entry of the ring, by its number and the generation of the ring when it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryRef {
    pub(crate) generation: u64,
    pub(crate) number: u64,
}

/// From where a stream joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JoinPoint {
    /// After a cursor.
    After(Cursor, CursorOrigin),
    /// With this entry: the stream has exactly the entries before.
    From(EntryRef),
    /// With the oldest entry that is kept.
    Earliest,
}

impl JoinPoint {
    /// Returns the cursor, if the stream joins after one.
    pub(crate) const fn cursor(&self) -> Option<&Cursor> {
        match self {
            Self::After(cursor, _) => Some(cursor),
            Self::From(_) | Self::Earliest => None,
        }
    }
}

/// The entries that a stream missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    /// The first of them.
    pub(crate) from: EntryRef,
    /// The stream has some of the entries before this number.
    pub(crate) skew_end: u64,
}

/// The result of an attempt to join the live events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JoinOutcome {
    /// The stream is live.
    Live,
    /// The stream is closed.
    Closed,
    /// The stream missed more than [`JOIN_EVENTS`] events.
    Behind(Missed),
    /// A watched partition is restarting, or the members of a group are being read. The stream joins later.
    Restarting,
    /// The own groups of the stream change with an entry that it missed.
    OwnGroupsChanged(Missed),
    /// The cursor is newer than the local history, and may belong to no event.
    Ahead,
    /// The cursor belongs to another data set.
    OtherEpoch,
    /// The stream must be reset.
    Gone(ResetReason),
}

/// A watched partition restarted, or the ring no longer reaches back to the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingChanged;

impl Hub {
    /// Makes a stream live that watches these partitions. The events it missed come first; none of them may be
    /// older than `oldest` of its partition if the cursor comes from a client.
    pub(crate) fn join(
        &self,
        subscriber: &Arc<Subscriber>,
        point: &JoinPoint,
        watched: &PartitionSet,
        oldest: impl Fn(Partition) -> Timestamp,
    ) -> JoinOutcome {
        let state = self.state.lock();
        if !state.lifetimes.has(subscriber) {
            return JoinOutcome::Closed;
        }
        let interest = subscriber.interest();
        let groups = interest.listed_groups();
        if !state.is_settled(watched) || !state.has_copies_of(groups) {
            return JoinOutcome::Restarting;
        }
        let ring = &state.ring;
        let located = match place(ring, point, watched, oldest) {
            Ok(located) => located,
            Err(outcome) => return outcome,
        };
        if let JoinPoint::After(cursor, CursorOrigin::Client) = point
            && has_changed(ring, &interest, cursor, located)
        {
            return JoinOutcome::Gone(ResetReason::GroupChanged);
        }
        if state.has_own_change(&interest, located.start.min(subscriber.since())) {
            return JoinOutcome::OwnGroupsChanged(missed(ring, located));
        }
        if ring.end() - located.start > JOIN_EVENTS {
            return JoinOutcome::Behind(missed(ring, located));
        }
        let live = Live {
            generation: ring.generation(),
            next: ring.end(),
        };
        let missed = missed_frames(&state, subscriber, located, point);
        subscriber.go_live(live, missed, || {
            frame::ready(&ring.cursor_before(ring.end()), None)
        });
        JoinOutcome::Live
    }

    /// Calls `read` with the ring while the hub is locked; `read` must be short. Fails if the entry
    /// `from` is gone, or if a watched partition restarted.
    pub(crate) fn read<T>(
        &self,
        from: EntryRef,
        watched: &PartitionSet,
        read: impl FnOnce(&Ring) -> T,
    ) -> Result<T, RingChanged> {
        self.read_with_copies(from, watched, |ring, _| read(ring))
    }

    /// Like [`Hub::read`], also with the members of the watched groups as of the end of the ring.
    pub(crate) fn read_with_copies<T>(
        &self,
        from: EntryRef,
        watched: &PartitionSet,
        read: impl FnOnce(&Ring, &Copies) -> T,
    ) -> Result<T, RingChanged> {
        let state = self.state.lock();
        match gone(&state.ring, from, watched) {
            Some(_) => Err(RingChanged),
            None => Ok(read(&state.ring, &state.copies)),
        }
    }

    /// Returns the entries that a client with this cursor misses, if the ring reaches back to them.
    pub(crate) fn missed_after(
        &self,
        cursor: &Cursor,
        watched: &PartitionSet,
    ) -> Result<Missed, RingChanged> {
        let state = self.state.lock();
        let any_age = |_| Timestamp::default();
        let located = state.ring.locate(cursor, watched, any_age);
        Ok(missed(&state.ring, located.map_err(|_| RingChanged)?))
    }

    /// Whether this instance has received the events of a partition up to this position of this data set.
    pub(crate) fn has_reached(
        &self,
        (partition, epoch, position): (Partition, Epoch, Position),
    ) -> bool {
        let newest = self.newest(partition);
        newest.is_some_and(|(known, newest)| known == epoch && newest >= position)
    }

    /// Whether this instance has received the events of these partitions up to the cursor.
    pub(crate) fn has_received(&self, cursor: &Cursor, watched: &PartitionSet) -> bool {
        let state = self.state.lock();
        let mut partitions = self.partitions.all().filter(|each| watched.contains(*each));
        partitions.all(|each| {
            let newest = state.ring.newest(each);
            newest.is_some_and(|(epoch, newest)| {
                cursor.epoch().is_none_or(|of_cursor| of_cursor == epoch)
                    && newest >= cursor.position(each)
            })
        })
    }

    /// Whether this instance follows the data set of the cursor, if the cursor names it.
    pub(crate) fn has_data_set_of(&self, cursor: &Cursor) -> bool {
        let newest = self.newest(Partition::FIRST);
        cursor
            .epoch()
            .is_none_or(|of_cursor| newest.is_some_and(|(epoch, _)| epoch == of_cursor))
    }

    /// Whether all these partitions are known, and the streams that watch them were reset after their last restart.
    pub(crate) fn is_settled(&self, watched: &PartitionSet) -> bool {
        self.state.lock().is_settled(watched)
    }
}

impl State {
    /// Whether the copies of all these groups are complete.
    fn has_copies_of(&self, groups: &[GroupId]) -> bool {
        let mut groups = groups.iter();
        groups.all(|group| self.copies.incomplete(group).is_none())
    }

    fn is_settled(&self, watched: &PartitionSet) -> bool {
        let held = self.ids.held();
        let mut partitions = self.ring.partitions().all();
        partitions.all(|each| {
            !watched.contains(each) || (!held.contains(each) && self.ring.newest(each).is_some())
        })
    }
}

fn missed(ring: &Ring, located: Located) -> Missed {
    Missed {
        from: EntryRef {
            generation: ring.generation(),
            number: located.start,
        },
        skew_end: located.skew_end,
    }
}

/// The place in the ring where a stream goes on.
fn place(
    ring: &Ring,
    point: &JoinPoint,
    watched: &PartitionSet,
    oldest: impl Fn(Partition) -> Timestamp,
) -> Result<Located, JoinOutcome> {
    let located = match point {
        JoinPoint::After(cursor, origin) => ring.locate(cursor, watched, |partition| {
            match origin {
                CursorOrigin::Client | CursorOrigin::Page => oldest(partition),
                // A cursor of the server may have any age.
                CursorOrigin::Server => Timestamp::default(),
            }
        }),
        JoinPoint::From(entry) => match gone(ring, *entry, watched) {
            Some(reason) => return Err(JoinOutcome::Gone(reason)),
            None => Ok(Located {
                start: entry.number,
                skew_end: entry.number,
            }),
        },
        JoinPoint::Earliest => Ok(Located {
            start: ring.first(),
            skew_end: ring.first(),
        }),
    };
    located.map_err(JoinOutcome::from)
}

/// Returns why the entries from this one on are no longer what a stream missed, or `None` if they are.
fn gone(ring: &Ring, from: EntryRef, watched: &PartitionSet) -> Option<ResetReason> {
    let evicted = (from.number < ring.first()).then_some(ResetReason::HistoryGone);
    ring.restarted_since(from.generation, watched).or(evicted)
}

/// Whether one of the groups, or the set of own groups, changed after the cursor.
fn has_changed(ring: &Ring, interest: &Interest, cursor: &Cursor, located: Located) -> bool {
    let groups = interest.listed_groups().iter();
    let mut newest = groups.filter_map(|group| ring.newest_of_group(group));
    let is_missed =
        |(partition, position): (Partition, Position)| position > cursor.position(partition);
    if newest.any(is_missed) {
        return true;
    }
    let Some(user) = interest.own() else {
        return false;
    };
    let partitions = ring.partitions();
    let mut events = ring.group_events(located.start);
    events.any(|(_, event)| {
        is_missed((partitions.of_group(&event.group), event.position)) && event.names(user)
    })
}

/// Returns the frames of the events that a stream missed. Frames that other streams share are not encoded again.
fn missed_frames(
    state: &State,
    subscriber: &Subscriber,
    located: Located,
    point: &JoinPoint,
) -> Vec<Frame> {
    let ring = &state.ring;
    let mut progress = None;
    let interest = subscriber.interest();
    let numbers = located.start..ring.end();
    let candidates = Candidates::read(numbers, ring, &state.copies, &interest);
    let missed = candidates.carried().into_iter().filter_map(|number| {
        let shared = ring.frame(number).filter(|_| number >= located.skew_end);
        if shared.is_some() && progress.is_none() {
            return shared;
        }
        let progress = progress.get_or_insert_with(|| match point {
            JoinPoint::After(cursor, _) if number < located.skew_end => Progress::of(cursor),
            _ => Progress::of(&ring.cursor_before(number)),
        });
        let (partition, event) = ring.event(number)?;
        let is_new = progress.advance(partition, event.position());
        is_new.then(|| shared.unwrap_or_else(|| frame::event(progress.id(), &event)))
    });
    missed.collect()
}

impl From<NotLocated> for JoinOutcome {
    fn from(why: NotLocated) -> Self {
        match why {
            NotLocated::NotKnown => Self::Restarting,
            NotLocated::OtherEpoch => Self::OtherEpoch,
            NotLocated::TooOld => Self::Gone(ResetReason::HistoryGone),
            NotLocated::Unknown => Self::Gone(ResetReason::UnknownCursor),
            NotLocated::Lost => Self::Gone(ResetReason::DataLost),
            NotLocated::Ahead => Self::Ahead,
        }
    }
}
