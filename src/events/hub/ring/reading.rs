//! Reads entries of a ring by their numbers.

use std::iter;
use std::sync::Arc;

use crate::events::hub::kept::Change;
use crate::events::hub::known::Known;
use crate::events::hub::ring::Ring;
use crate::events::sse::frame::Frame;
use crate::model::{
    Entry, GroupEvent, GroupId, Partition, Position, PresenceEvent, State, Timestamp, UserChange,
    UserId,
};

impl Ring {
    /// Returns when the entry with this number was written.
    pub(crate) fn written_at(&self, number: u64) -> Option<Timestamp> {
        self.get(number).map(|kept| kept.at)
    }

    /// Returns the event with this number and its partition, unless it is void or its type is unknown.
    pub(crate) fn event(&self, number: u64) -> Option<(Partition, Entry)> {
        let kept = self.valid(number)?;
        let event = match &kept.change {
            Change::User(user, change) => {
                let part = self.part(kept.partition);
                Entry::Event(PresenceEvent {
                    position: kept.position,
                    previous: self.position_before(part, part.numbers.below(number)),
                    user: user.clone(),
                    at: kept.at,
                    change: change.clone(),
                })
            }
            Change::Group(event) => Entry::Group(Arc::clone(event)),
            Change::Unknown => return None,
        };
        Some((kept.partition, event))
    }

    /// Returns the user of the event with this number, if it is a valid event of a user.
    pub(crate) fn user(&self, number: u64) -> Option<&UserId> {
        match &self.valid(number)?.change {
            Change::User(user, _) => Some(user),
            Change::Group(_) | Change::Unknown => None,
        }
    }

    /// The state with which a user is announced, as of the end of the ring. `None`: the user is not announced. `known`
    /// is the state as of a position of its partition.
    pub(crate) fn state_of(&self, user: &UserId, known: &Known) -> Option<Option<Arc<State>>> {
        let newest = self.newest_of(user).and_then(|number| self.valid(number));
        match newest.map(|kept| (&kept.change, kept.position)) {
            Some((Change::User(_, change), at)) if at > known.position => match change {
                UserChange::Online { state } | UserChange::Updated { state } => Some(state.clone()),
                UserChange::Offline { .. } => None,
            },
            _ => known.announced.clone(),
        }
    }

    /// Returns the event of a group with this number, if it is a valid one.
    pub(crate) fn group_event(&self, number: u64) -> Option<&Arc<GroupEvent>> {
        match &self.valid(number)?.change {
            Change::Group(event) => Some(event),
            Change::User(..) | Change::Unknown => None,
        }
    }

    /// Returns the events of groups from this number on, in order.
    pub(crate) fn group_events(&self, from: u64) -> impl Iterator<Item = (u64, &Arc<GroupEvent>)> {
        let first = self.about_groups.partition_point(|number| *number < from);
        let numbers = self.about_groups.range(first..);
        numbers.filter_map(|number| Some((*number, self.group_event(*number)?)))
    }

    /// Returns the events of one group from this number on, from the newest to the oldest.
    pub(crate) fn events_of_group(
        &self,
        group: &GroupId,
        from: u64,
    ) -> impl Iterator<Item = (u64, &Arc<GroupEvent>)> {
        let newest = self.newest_of_group.get(group).copied();
        let numbers = iter::successors(newest, |number| self.previous_of_same(*number));
        let numbers = numbers.take_while(move |number| *number >= from);
        numbers.map_while(|number| Some((number, self.group_event(number)?)))
    }

    /// Returns the partition and the position of the newest event of a group.
    pub(crate) fn newest_of_group(&self, group: &GroupId) -> Option<(Partition, Position)> {
        let kept = self.valid(*self.newest_of_group.get(group)?)?;
        Some((kept.partition, kept.position))
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

    /// Returns the number of the previous event of the same user, or of the same group.
    pub(crate) fn previous_of_same(&self, number: u64) -> Option<u64> {
        let distance = u64::from(self.get(number)?.distance);
        let previous = number - distance;
        (distance > 0 && previous >= self.first).then_some(previous)
    }
}
