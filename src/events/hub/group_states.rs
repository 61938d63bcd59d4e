//! The state of watched groups, as the hub offers it to streams that open.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use parking_lot::MutexGuard;

use crate::events::hub::copies::{CopyId, Incomplete};
use crate::events::hub::join::EntryRef;
use crate::events::hub::known::{Known, KnownMembers};
use crate::events::hub::ring::Ring;
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

/// Why the states of groups are not known.
#[derive(Debug)]
pub(crate) enum Unknown {
    /// The states of these users were not read, or too long ago.
    Users(Vec<UserId>),
    /// A copy became incomplete, or a partition restarted.
    Changed,
}

fn end_of(ring: &Ring) -> EntryRef {
    EntryRef {
        generation: ring.generation(),
        number: ring.end(),
    }
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

    /// Whether the lists of streams and the copies of groups take less memory than they may.
    pub(crate) fn has_room_for_members(&self) -> bool {
        let state = self.state.lock();
        state.index.watched() + state.copies.weight() < self.limits.watched_users
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

    /// The members of a watched group, in any order.
    pub(crate) fn members_of(&self, group: &GroupId) -> Vec<UserId> {
        let state = self.state.lock();
        let members = state.copies.members(group);
        members.into_iter().flatten().cloned().collect()
    }

    /// The number of members of a watched group.
    pub(crate) fn member_count(&self, group: &GroupId) -> usize {
        let state = self.state.lock();
        state.copies.members(group).map_or(0, HashSet::len)
    }

    /// The entry that the ring gets next.
    pub(crate) fn end_of_ring(&self) -> EntryRef {
        end_of(&self.state.lock().ring)
    }

    /// The states of groups and users. `known` has the states of users up to which this instance received the events. It
    /// was read since the ring had this generation.
    pub(crate) fn group_states(
        &self,
        interest: &GroupInterest,
        known: &KnownMembers,
        generation: u64,
    ) -> Result<GroupStates, Unknown> {
        let mut found = self.unsorted_group_states(interest, known, generation)?;
        // Without the lock, because a group may have thousands of members.
        for (_, _, online) in &mut found.groups {
            online.sort_unstable();
        }
        Ok(found)
    }

    fn unsorted_group_states(
        &self,
        interest: &GroupInterest,
        known: &KnownMembers,
        generation: u64,
    ) -> Result<GroupStates, Unknown> {
        let state = self.state.lock();
        let ring = &state.ring;
        if ring.generation() != generation {
            return Err(Unknown::Changed);
        }
        let mut states = States::default();
        let mut unknown = Vec::new();
        let mut add = |online: &mut Vec<UserId>, user: &UserId, known: Option<&Known>| {
            // The ring may no longer have all events since an old read.
            let is_covered =
                |known: &&Known| known.position >= ring.floor(self.partitions.of(user));
            let Some(known) = known.filter(is_covered) else {
                unknown.push(user.clone());
                return;
            };
            if let Some(state) = ring.state_of(user, known) {
                online.push(user.clone());
                states.extend(state.map(|state| (user.clone(), state)));
            }
        };
        let mut groups = Vec::with_capacity(interest.groups.len());
        for (place, group) in interest.groups.iter().enumerate() {
            if state.copies.incomplete(group).is_some() {
                return Err(Unknown::Changed);
            }
            let members = state.copies.members(group).ok_or(Unknown::Changed)?;
            let mut online = Vec::new();
            for user in members {
                add(&mut online, user, known.of_member(place, user));
            }
            groups.push((group.clone(), members.len(), online));
        }
        let mut users = Vec::new();
        for user in &interest.users {
            add(&mut users, user, known.of_other(user));
        }
        if !unknown.is_empty() {
            return Err(Unknown::Users(unknown));
        }
        Ok(GroupStates {
            end: end_of(ring),
            cursor: ring.cursor_before(ring.end()),
            users: (!interest.users.is_empty()).then_some(users),
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
