//! The calls about groups on the embedded store.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::groups::Written;
use super::{MemoryStore, State};
use crate::model::{
    Entry, GroupEvent, GroupId, GroupRefusal, GroupWritten, JoinedUser, LeftReason, MemberChange,
    Timestamp, UserId,
};
use crate::store::members::Members;
use crate::store::policy::USERS_PER_EVENT;

impl MemoryStore {
    /// Makes `members` the stored members of a group.
    pub(in crate::store) fn replace_group(
        &self,
        group: &GroupId,
        members: &[UserId],
    ) -> Result<GroupWritten, GroupRefusal> {
        let mut state = self.state.lock();
        let most = self.lifetimes.group_members;
        let written = state.groups.replace(group, members, most)?;
        Ok(self.announce_members(&mut state, group, written))
    }

    /// Adds and removes stored members of a group.
    pub(in crate::store) fn change_group(
        &self,
        group: &GroupId,
        add: &[UserId],
        remove: &[UserId],
    ) -> Result<GroupWritten, GroupRefusal> {
        let mut state = self.state.lock();
        let most = self.lifetimes.group_members;
        let written = state.groups.change(group, add, remove, most)?;
        Ok(self.announce_members(&mut state, group, written))
    }

    /// The members of a group, ordered by id.
    pub(in crate::store) fn group_members(&self, group: &GroupId, which: Members) -> Vec<UserId> {
        let state = self.state.lock();
        let mut members: BTreeSet<_> = state.groups.members(group).collect();
        match which {
            Members::Now => members.extend(state.seats.live_users(group, self.now())),
            Members::Announced => members.extend(state.seats.users(group)),
        }
        members.into_iter().cloned().collect()
    }

    /// Whether a user is a member of a group now.
    pub(in crate::store) fn is_member(&self, group: &GroupId, user: &UserId) -> bool {
        let state = self.state.lock();
        state.groups.contains(group, user) || state.seats.has_live(group, user, self.now())
    }

    /// The groups of which a user is an announced member.
    pub(in crate::store) fn groups_of(&self, user: &UserId) -> Vec<GroupId> {
        let state = self.state.lock();
        let presence = state.announced.get(user);
        let connections = presence.into_iter().flat_map(|each| each.connections.all());
        let stated = connections.flat_map(|each| each.groups.iter().cloned());
        let seated = stated.filter(|group| state.seats.contains(group, user));
        let groups: BTreeSet<_> = state.groups.of(user).into_iter().chain(seated).collect();
        groups.into_iter().collect()
    }

    fn announce_members(
        &self,
        state: &mut State,
        group: &GroupId,
        written: Written,
    ) -> GroupWritten {
        let now = self.now();
        let Written { joined, left } = written;
        let answer = GroupWritten {
            members: state.groups.len(group),
            added: joined.len(),
            removed: left.len(),
        };
        let reason = LeftReason::Removed;
        // A user that has a seat is a member before and after.
        let has_no_seat = |user: &UserId| !state.seats.contains(group, user);
        let left: Vec<_> = left.into_iter().filter(has_no_seat).collect();
        let joined: Vec<_> = joined.into_iter().filter(has_no_seat).collect();
        for users in left.chunks(USERS_PER_EVENT) {
            let users = users.to_vec();
            self.announce_group(state, group, now, MemberChange::Left { users, reason });
        }
        for users in joined.chunks(USERS_PER_EVENT) {
            let joined = users.iter().map(|user| JoinedUser {
                user: user.clone(),
                is_announced: state.announced.get(user).is_some(),
            });
            let change = MemberChange::Joined(joined.collect());
            self.announce_group(state, group, now, change);
        }
        answer
    }

    pub(super) fn announce_group(
        &self,
        state: &mut State,
        group: &GroupId,
        at: Timestamp,
        change: MemberChange,
    ) {
        self.append(state, at, |position, previous| {
            Entry::Group(Arc::new(GroupEvent {
                position,
                previous,
                group: group.clone(),
                at,
                change,
            }))
        });
    }
}
