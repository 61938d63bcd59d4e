//! Members by pinging on the embedded store: the steps of connections in groups.

use super::connection::Connection;
use super::seats::Seat;
use super::{MemoryStore, State};
use crate::model::{
    ConnectionId, GroupId, JoinedUser, LeftReason, MemberChange, Timestamp, UserId,
};
use crate::store::policy::SWEEP_BATCH;

/// A connection, and groups that it stated.
pub(super) type StatedGroups = (ConnectionId, Box<[GroupId]>);

impl State {
    fn is_announced_member(&self, group: &GroupId, user: &UserId) -> bool {
        self.groups.contains(group, user) || self.seats.contains(group, user)
    }

    fn has_room(&self, group: &GroupId, most: usize) -> bool {
        let seated = self.seats.users(group);
        let others = seated.filter(|user| !self.groups.contains(group, user));
        self.groups.len(group) + others.take(most).count() < most
    }

    /// The connections of a user that state groups, each with its groups.
    pub(super) fn stated_groups(
        &self,
        user: &UserId,
        is_wanted: impl Fn(&ConnectionId) -> bool,
    ) -> Vec<StatedGroups> {
        let presence = self.announced.get(user);
        let all = presence.into_iter().flat_map(|each| each.connections.all());
        let stating = all.filter(|each| !each.groups.is_empty() && is_wanted(&each.id));
        stating
            .map(|each| (each.id.clone(), each.groups.clone()))
            .collect()
    }

    /// Makes the seats of connections that leave end with these connections.
    pub(super) fn leave_groups_later(
        &mut self,
        user: &UserId,
        leaving: &[StatedGroups],
        ends: Timestamp,
    ) {
        for (connection, groups) in leaving {
            for group in groups {
                self.seats.leave(group, user, connection, ends);
            }
        }
    }
}

impl MemoryStore {
    /// Gives a connection a seat in each of `groups`. Returns the groups that are full.
    pub(super) fn join_groups(
        &self,
        state: &mut State,
        user: &UserId,
        (seat, groups): (Option<Seat>, &[GroupId]),
        now: Timestamp,
    ) -> Vec<GroupId> {
        let mut full = Vec::new();
        let Some(seat) = seat else {
            return full;
        };
        for group in groups {
            let was_member = state.is_announced_member(group, user);
            if !was_member && !state.has_room(group, self.lifetimes.group_members) {
                full.push(group.clone());
                continue;
            }
            state.seats.take(group, user, seat.clone());
            if !was_member {
                let joined = JoinedUser {
                    user: user.clone(),
                    is_announced: state.announced.get(user).is_some(),
                };
                let change = MemberChange::Joined(vec![joined]);
                self.announce_group(state, group, now, change);
            }
        }
        full
    }

    /// Removes the seats of connections in groups that are not in `kept`.
    pub(super) fn leave_groups(
        &self,
        state: &mut State,
        user: &UserId,
        left: &[StatedGroups],
        kept: (Option<&ConnectionId>, &[GroupId]),
        now: Timestamp,
    ) {
        for (connection, groups) in left {
            for group in groups {
                if kept.0 == Some(connection) && kept.1.contains(group) {
                    continue;
                }
                if state.seats.end(group, user, connection) {
                    self.announce_left(state, group, user, LeftReason::Disconnected, now);
                }
            }
        }
    }

    /// Ends the seats that are due. Returns whether more may be due.
    pub(super) fn end_seats(&self, state: &mut State, now: Timestamp) -> bool {
        for _ in 0..SWEEP_BATCH {
            let Some((group, user)) = state.seats.first_due(now) else {
                return false;
            };
            let outages = &state.outages;
            if let Some(reason) = state.seats.sweep(&group, &user, now, outages) {
                self.announce_left(state, &group, &user, reason, now);
            }
        }
        true
    }

    /// Announces that a user left a group, unless the user is stored in the group.
    fn announce_left(
        &self,
        state: &mut State,
        group: &GroupId,
        user: &UserId,
        reason: LeftReason,
        now: Timestamp,
    ) {
        if !state.groups.contains(group, user) {
            let users = vec![user.clone()];
            self.announce_group(state, group, now, MemberChange::Left { users, reason });
        }
    }
}

impl Seat {
    /// The seat of a connection in each of its groups; `None` if it states none.
    pub(super) fn of(connection: &Connection) -> Option<Self> {
        (!connection.groups.is_empty()).then(|| Self {
            connection: connection.id.clone(),
            deadline: connection.deadline,
            grant: connection.grant,
            leaves: false,
        })
    }
}
