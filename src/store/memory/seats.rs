//! The members of groups by pinging, on the embedded store.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::outages::Outages;
use crate::model::{ConnectionId, GroupId, LeftReason, Timestamp, UserId};
use crate::store::lifetimes::Grant;

/// The membership of a user in a group by one connection.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) connection: ConnectionId,
    pub(super) deadline: Timestamp,
    pub(super) grant: Grant,
    /// Whether the connection leaves with a grace period. Such a seat is not held.
    pub(super) leaves: bool,
}

/// The seats of a user in a group; at least one.
#[derive(Debug)]
struct Seated {
    seats: Vec<Seat>,
    /// When a sweep looks at the seats: not after the first end of a seat.
    look_at: Timestamp,
}

/// The seats of all groups.
#[derive(Debug, Default)]
pub(super) struct Seats {
    groups: HashMap<GroupId, BTreeMap<UserId, Seated>>,
    due: BTreeSet<(Timestamp, GroupId, UserId)>,
}

impl Seat {
    fn end(&self, outages: &Outages) -> Timestamp {
        if self.leaves {
            self.deadline
        } else {
            outages.end_of(self.deadline, self.grant)
        }
    }
}

impl Seats {
    fn get(&self, group: &GroupId, user: &UserId) -> Option<&Seated> {
        self.groups.get(group)?.get(user)
    }

    /// Whether a user has a seat in a group.
    pub(super) fn contains(&self, group: &GroupId, user: &UserId) -> bool {
        self.get(group, user).is_some()
    }

    /// Whether a user has a seat in a group whose deadline has not passed.
    pub(super) fn has_live(&self, group: &GroupId, user: &UserId, now: Timestamp) -> bool {
        self.get(group, user).is_some_and(|each| each.is_live(now))
    }

    /// The users with seats in a group.
    pub(super) fn users(&self, group: &GroupId) -> impl Iterator<Item = &UserId> {
        self.groups.get(group).into_iter().flat_map(BTreeMap::keys)
    }

    /// The users with seats in a group whose deadline has not passed.
    pub(super) fn live_users(
        &self,
        group: &GroupId,
        now: Timestamp,
    ) -> impl Iterator<Item = &UserId> {
        let all = self.groups.get(group).into_iter().flatten();
        all.filter_map(move |(user, each)| each.is_live(now).then_some(user))
    }

    /// When a sweep is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Gives a connection a seat, or replaces its seat.
    pub(super) fn take(&mut self, group: &GroupId, user: &UserId, seat: Seat) {
        let deadline = seat.deadline;
        let users = self.groups.entry(group.clone()).or_default();
        let Some(seated) = users.get_mut(user) else {
            self.due.insert((deadline, group.clone(), user.clone()));
            let seated = Seated {
                seats: vec![seat],
                look_at: deadline,
            };
            users.insert(user.clone(), seated);
            return;
        };
        let mut known = seated.seats.iter_mut();
        match known.find(|each| each.connection == seat.connection) {
            Some(known) => *known = seat,
            None => seated.seats.push(seat),
        }
        if deadline < seated.look_at {
            self.look_at(group, user, deadline);
        }
    }

    /// Makes the seat of a connection that leaves end with the connection.
    pub(super) fn leave(
        &mut self,
        group: &GroupId,
        user: &UserId,
        connection: &ConnectionId,
        ends: Timestamp,
    ) {
        let users = self.groups.get_mut(group);
        let seated = users.and_then(|users| users.get_mut(user));
        let seats = seated.into_iter().flat_map(|seated| &mut seated.seats);
        for seat in seats.filter(|seat| seat.connection == *connection) {
            seat.leaves = true;
            seat.deadline = seat.deadline.min(ends);
        }
        self.look_at(group, user, ends);
    }

    /// Removes the seat of a connection. Returns whether it was the last seat of the user.
    pub(super) fn end(
        &mut self,
        group: &GroupId,
        user: &UserId,
        connection: &ConnectionId,
    ) -> bool {
        let users = self.groups.get_mut(group);
        let Some(seated) = users.and_then(|users| users.get_mut(user)) else {
            return false;
        };
        seated.seats.retain(|seat| seat.connection != *connection);
        self.remove_if_empty(group, user)
    }

    /// The first user and group that are due before `now`.
    pub(super) fn first_due(&self, now: Timestamp) -> Option<(GroupId, UserId)> {
        let (at, group, user) = self.due.first()?;
        (*at < now).then(|| (group.clone(), user.clone()))
    }

    /// Removes the seats of a user that ended before `now` and are not held. Returns why the user left the group, if
    /// that was its last seat.
    pub(super) fn sweep(
        &mut self,
        group: &GroupId,
        user: &UserId,
        now: Timestamp,
        outages: &Outages,
    ) -> Option<LeftReason> {
        let seated = self.groups.get_mut(group)?.get_mut(user)?;
        let ended = seated.seats.extract_if(.., |seat| seat.end(outages) < now);
        let last = ended.max_by_key(|seat| (seat.deadline, !seat.leaves));
        let ends = seated.seats.iter().map(|seat| {
            if seat.deadline < now {
                seat.end(outages)
            } else {
                seat.deadline
            }
        });
        if let Some(next) = ends.min() {
            self.settle(group, user, next);
            return None;
        }
        self.remove_if_empty(group, user);
        Some(match last {
            Some(last) if last.leaves => LeftReason::Disconnected,
            _ => LeftReason::Expired,
        })
    }

    fn remove_if_empty(&mut self, group: &GroupId, user: &UserId) -> bool {
        let Some(users) = self.groups.get_mut(group) else {
            return false;
        };
        match users.get(user) {
            Some(seated) if seated.seats.is_empty() => {
                let due = (seated.look_at, group.clone(), user.clone());
                self.due.remove(&due);
            }
            _ => return false,
        }
        users.remove(user);
        if users.is_empty() {
            self.groups.remove(group);
        }
        true
    }

    /// Looks at the seats of a user at `at` at the latest.
    fn look_at(&mut self, group: &GroupId, user: &UserId, at: Timestamp) {
        if self.get(group, user).is_some_and(|each| at < each.look_at) {
            self.settle(group, user, at);
        }
    }

    fn settle(&mut self, group: &GroupId, user: &UserId, at: Timestamp) {
        let users = self.groups.get_mut(group);
        let Some(seated) = users.and_then(|users| users.get_mut(user)) else {
            return;
        };
        let former = std::mem::replace(&mut seated.look_at, at);
        let mut due = (former, group.clone(), user.clone());
        self.due.remove(&due);
        due.0 = at;
        self.due.insert(due);
    }
}

impl Seated {
    fn is_live(&self, now: Timestamp) -> bool {
        self.seats.iter().any(|seat| seat.deadline >= now)
    }
}
