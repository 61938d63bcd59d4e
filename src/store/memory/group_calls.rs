//! The calls about groups on the embedded store.

use std::sync::Arc;

use super::groups::Written;
use super::{MemoryStore, State};
use crate::model::{
    Entry, GroupEvent, GroupId, GroupRefusal, GroupWritten, JoinedUser, LeftReason, MemberChange,
    Timestamp, UserId,
};
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
    pub(in crate::store) fn group_members(&self, group: &GroupId) -> Vec<UserId> {
        self.state.lock().groups.members(group).cloned().collect()
    }

    /// Whether a user is a member of a group.
    pub(in crate::store) fn is_member(&self, group: &GroupId, user: &UserId) -> bool {
        self.state.lock().groups.contains(group, user)
    }

    /// The groups of a user.
    pub(in crate::store) fn groups_of(&self, user: &UserId) -> Vec<GroupId> {
        self.state.lock().groups.of(user)
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

    fn announce_group(
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
