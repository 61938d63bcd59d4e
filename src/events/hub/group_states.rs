//! The state of watched groups, as the hub offers it to streams that open.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use parking_lot::MutexGuard;

use crate::events::hub::copies::{CopyId, Incomplete};
use crate::events::hub::join::EntryRef;
use crate::events::hub::known::KnownUsers;
use crate::events::hub::{Hub, free};
use crate::events::interest::GroupInterest;
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame::States;
use crate::model::{GroupId, Partition, UserId};

/// The state of the groups and users of an interest, as of the end of the ring.
#[derive(Debug)]
pub(crate) struct GroupStates {
    /// The end of the ring.
    pub(crate) end: EntryRef,
    /// The cursor of a client that received all entries.
    pub(crate) cursor: Cursor,
    /// The online users among the listed ones, if the interest lists users.
    pub(crate) users: Option<Vec<UserId>>,
    /// Each group with the number of its members, and the online ones.
    pub(crate) groups: Vec<(GroupId, usize, Vec<UserId>)>,
    /// The states of the online users, where something is set.
    pub(crate) states: States,
}

impl Hub {
    /// Pins the copy of a group until [`Hub::unpin`].
    pub(crate) fn pin(&self, group: &GroupId) -> CopyId {
        self.state.lock().copies.pin(group)
    }

    /// Releases a pin.
    pub(crate) fn unpin(&self, copy: CopyId) {
        let mut state = self.state.lock();
        let removed = state.copies.unpin(copy);
        free(state, removed.into_iter().collect());
    }

    /// The copy of a watched group, if its members must be read from the store.
    pub(crate) fn incomplete(&self, group: &GroupId) -> Option<Incomplete> {
        self.state.lock().copies.incomplete(group)
    }

    /// Whether streams watch a group.
    pub(crate) fn is_group_watched(&self, group: &GroupId) -> bool {
        self.state.lock().copies.is_watched(group)
    }

    /// Whether the lists of streams and the copies of groups have fewer users than the memory allows.
    pub(crate) fn has_room_for_members(&self) -> bool {
        let state = self.state.lock();
        state.index.watched() + state.copies.total() < self.limits.watched_users
    }

    /// Fills a copy with the members that the store has, after this instance received all earlier events.
    pub(crate) fn fill_copy(&self, incomplete: Incomplete, mut members: Vec<UserId>) {
        let read: HashSet<_, RandomState> = members.iter().cloned().collect();
        let mut state = self.state.lock();
        if !state.copies.begin_fill(incomplete, &read) {
            return;
        }
        while state.copies.fill_some(incomplete, &mut members) {
            MutexGuard::bump(&mut state);
        }
        drop(state);
        self.received.notify_waiters();
    }

    /// The members of the groups and the users of an interest, sorted and without duplicates.
    pub(crate) fn users_of(&self, interest: &GroupInterest) -> Vec<UserId> {
        let mut users = interest.users.to_vec();
        for group in &interest.groups {
            let state = self.state.lock();
            users.extend(state.copies.members(group).into_iter().flatten().cloned());
        }
        users.sort_unstable();
        users.dedup();
        users
    }

    /// The states of groups and users. `known` has the states of users up to which this instance received the events.
    /// Returns `None` if a member is not known, or if a copy is incomplete.
    pub(crate) fn group_states(
        &self,
        interest: &GroupInterest,
        known: &KnownUsers,
    ) -> Option<GroupStates> {
        let state = self.state.lock();
        let ring = &state.ring;
        let mut states = States::default();
        let mut online = |users: &mut dyn Iterator<Item = &UserId>| {
            let mut online = Vec::new();
            for user in users {
                if let Some(state) = ring.state_of(user, known.get(user)?) {
                    online.push(user.clone());
                    states.extend(state.map(|state| (user.clone(), state)));
                }
            }
            online.sort_unstable();
            Some(online)
        };
        let mut groups = Vec::with_capacity(interest.groups.len());
        for group in &interest.groups {
            if state.copies.incomplete(group).is_some() {
                return None;
            }
            let members = state.copies.members(group)?;
            let online = online(&mut members.iter())?;
            groups.push((group.clone(), members.len(), online));
        }
        let users = match &*interest.users {
            [] => None,
            users => Some(online(&mut users.iter())?),
        };
        Some(GroupStates {
            end: EntryRef {
                generation: ring.generation(),
                number: ring.end(),
            },
            cursor: ring.cursor_before(ring.end()),
            users,
            groups,
            states,
        })
    }

    /// Makes the copies of the groups in a partition incomplete, because its events were lost.
    pub(super) fn invalidate_copies(&self, partition: Partition) {
        let partitions = self.partitions;
        let is_lost = |group: &GroupId| partitions.of_group(group) == partition;
        self.state.lock().copies.invalidate(is_lost);
    }
}
