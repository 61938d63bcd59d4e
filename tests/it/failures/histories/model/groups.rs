//! The groups of the reference model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use presence::model::{
    Closing, Connected, ConnectionId, GroupEvent, GroupId, GroupRefusal, GroupWritten, LeftReason,
    MemberChange, UserId,
};

use super::Bracket;
use super::user::{Connection, Outage};

/// A call that takes longer may not reach a group in time.
const SLOW: Duration = Duration::from_millis(500);

/// A connection in a group that it stated.
#[derive(Clone, Copy, Debug)]
struct Seat {
    connection: Connection,
    /// Whether a call or a sweep may have ended the seat.
    may_be_gone: bool,
    /// Whether the connection may have opened again without the seat, and left.
    may_have_left: bool,
    /// Whether the sweep of this step surely ended the seat.
    overdue: bool,
}

/// What the step did that can change members.
#[derive(Clone, Debug)]
enum Cause {
    Nothing,
    /// A write removed these users.
    Written(BTreeSet<UserId>),
    /// A connection of the user closed or stated other groups.
    Called(UserId),
    Swept,
}

#[derive(Debug, Default)]
struct Group {
    stored: BTreeSet<UserId>,
    announced: BTreeSet<UserId>,
    seats: BTreeMap<(UserId, ConnectionId), Seat>,
}

#[derive(Debug)]
pub(in super::super) struct Groups {
    /// The most members of a group.
    most: usize,
    groups: BTreeMap<GroupId, Group>,
    cause: Cause,
}

/// A connect or a ping: of whom, and the connection that it opened.
pub(super) struct Seated<'a> {
    pub(super) user: &'a UserId,
    pub(super) id: &'a ConnectionId,
    pub(super) connection: Connection,
    pub(super) groups: &'a [GroupId],
    /// Whether a connection that leaves may have given up its place.
    pub(super) crowded: bool,
}

impl Group {
    fn seats_of(&self, user: &UserId) -> impl Iterator<Item = &Seat> {
        let seats = self.seats.iter();
        seats.filter_map(move |((each, _), seat)| (each == user).then_some(seat))
    }

    /// Whether a user is a member whose departure is not announced: certainly, and possibly.
    fn stays(&self, user: &UserId) -> (bool, bool) {
        let is_stored = self.stored.contains(user);
        let surely = self.seats_of(user).any(|seat| !seat.may_be_gone);
        (
            is_stored || surely,
            is_stored || self.seats_of(user).next().is_some(),
        )
    }

    /// Whether a user is a member now: certainly, and possibly.
    fn is_member(&self, user: &UserId, at: Bracket) -> (bool, bool) {
        let is_stored = self.stored.contains(user);
        let surely = |seat: &Seat| !seat.may_be_gone && at.surely_before(seat.connection.deadline);
        let maybe = |seat: &Seat| !seat.connection.deadline.surely_before(at);
        (
            is_stored || self.seats_of(user).any(surely),
            is_stored || self.seats_of(user).any(maybe),
        )
    }

    /// A call closed a connection, or stated no more that it is in the group. A store may not know a connection that
    /// expired.
    fn close(&mut self, user: &UserId, id: &ConnectionId, at: Bracket) {
        let key = (user.clone(), id.clone());
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.may_be_gone = true;
            if at.surely_before(seat.connection.deadline) {
                self.seats.remove(&key);
            }
        }
    }
}

impl Groups {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            groups: BTreeMap::new(),
            cause: Cause::Nothing,
        }
    }

    fn group(&mut self, group: &GroupId) -> &mut Group {
        self.groups.entry(group.clone()).or_default()
    }

    /// A connection was opened or refreshed.
    pub(super) fn stated(&mut self, at: Bracket, seated: &Seated<'_>, answer: &Connected) {
        let Seated { user, id, .. } = *seated;
        for group in seated.groups {
            self.group(group);
        }
        let most = self.most;
        for (name, group) in &mut self.groups {
            if seated.crowded {
                let others = group.seats.iter_mut().filter(|((each, _), _)| each == user);
                for (_, seat) in others.filter(|(_, seat)| seat.connection.left.is_some()) {
                    seat.may_be_gone = true;
                }
            }
            if !seated.groups.contains(name) {
                group.close(user, id, at);
                continue;
            }
            let has_room = group.announced.contains(user) || group.announced.len() < most;
            let has_joined = !answer.not_joined.contains(name);
            // A group that does not answer in time may accept the user nevertheless.
            let is_late = !has_joined && at.lasts(SLOW);
            assert!(
                has_joined == has_room || is_late,
                "{user} in {name}: {has_joined} {group:?}"
            );
            if has_joined || is_late && has_room {
                let seat = Seat {
                    connection: seated.connection,
                    may_be_gone: is_late,
                    may_have_left: false,
                    overdue: false,
                };
                group.seats.insert((user.clone(), id.clone()), seat);
            }
        }
        self.cause = Cause::Called(user.clone());
    }

    /// Connections were closed; one that leaves with a grace period ends at `ends`.
    pub(super) fn closed(
        &mut self,
        at: Bracket,
        user: &UserId,
        closing: &Closing,
        ends: Option<Bracket>,
    ) {
        for group in self.groups.values_mut() {
            match (closing, ends) {
                (Closing::Later(id, _), Some(ends)) => {
                    let seat = group.seats.get_mut(&(user.clone(), id.clone()));
                    let Some(seat) = seat else {
                        continue;
                    };
                    if !at.surely_before(seat.connection.deadline) {
                        // It may be the seat of an earlier connection with this id, which had expired.
                        seat.may_be_gone = true;
                        seat.may_have_left = true;
                        continue;
                    }
                    seat.may_have_left = seat.may_be_gone;
                    let deadline = &mut seat.connection.deadline;
                    deadline.earliest = deadline.earliest.min(ends.earliest);
                    deadline.latest = deadline.latest.min(ends.latest);
                    seat.connection.left = Some(at);
                }
                (Closing::One(id) | Closing::Later(id, _), _) => group.close(user, id, at),
                (Closing::All, _) => {
                    let ids = group.seats.keys().filter(|(each, _)| each == user);
                    let ids: Vec<ConnectionId> = ids.map(|(_, id)| id.clone()).collect();
                    for id in ids {
                        group.close(user, &id, at);
                    }
                }
            }
        }
        self.cause = Cause::Called(user.clone());
    }

    /// A back end replaced or changed the stored members.
    pub(in super::super) fn written(
        &mut self,
        group: &GroupId,
        members: BTreeSet<UserId>,
        answer: Result<GroupWritten, GroupRefusal>,
    ) {
        let most = self.most;
        let group = self.group(group);
        let joined = members.difference(&group.stored).count();
        let removed: BTreeSet<_> = group.stored.difference(&members).cloned().collect();
        if joined > 0 && members.len() > most {
            assert_eq!(answer, Err(GroupRefusal::TooManyMembers { most }));
            return;
        }
        let written = GroupWritten {
            members: members.len(),
            added: joined,
            removed: removed.len(),
        };
        assert_eq!(answer, Ok(written), "{removed:?}");
        group.stored = members;
        self.cause = Cause::Written(removed);
    }

    /// The stored members of a group.
    pub(in super::super) fn stored(&self, group: &GroupId) -> BTreeSet<UserId> {
        let group = self.groups.get(group);
        group.map(|group| group.stored.clone()).unwrap_or_default()
    }

    /// A sweep ends the seats of expired connections, unless they are held. A sweep that was itself stalled may have
    /// noticed an outage.
    pub(super) fn swept(&mut self, at: Bracket, outages: &[Outage], is_stalled: bool) {
        for group in self.groups.values_mut() {
            for seat in group.seats.values_mut() {
                let end = seat.connection.end(outages);
                seat.may_be_gone |= !at.surely_before(end);
                seat.overdue = end.surely_before(at) && !is_stalled;
            }
        }
        self.cause = Cause::Swept;
    }

    /// An event of a group. `is_online` says whether a user is announced, if the user is in the partition of the group.
    pub(super) fn announced(
        &mut self,
        event: &GroupEvent,
        is_online: impl Fn(&UserId) -> Option<bool>,
    ) {
        let cause = self.cause.clone();
        let group = self.group(&event.group);
        let what = format!("{event:?} {cause:?} {group:?}");
        match &event.change {
            MemberChange::Joined(joined) => {
                for each in joined {
                    assert!(group.announced.insert(each.user.clone()), "twice: {what}");
                    assert!(group.stays(&each.user).1, "no member: {what}");
                    if let Some(is_online) = is_online(&each.user) {
                        assert_eq!(each.is_announced, is_online, "{what}");
                    }
                }
            }
            MemberChange::Left { users, reason } => {
                for user in users {
                    assert!(group.announced.remove(user), "twice: {what}");
                    assert!(!group.stored.contains(user), "stored: {what}");
                    let is_caused = match &cause {
                        Cause::Nothing => false,
                        Cause::Written(removed) => {
                            *reason == LeftReason::Removed && removed.contains(user)
                        }
                        Cause::Called(who) => *reason == LeftReason::Disconnected && who == user,
                        Cause::Swept => group.seats_of(user).any(|seat| {
                            let left = seat.connection.left.is_some();
                            let is_reason = left == (*reason == LeftReason::Disconnected);
                            seat.may_be_gone && (is_reason || seat.may_have_left)
                        }),
                    };
                    assert!(is_caused, "no reason: {what}");
                    let stays = |seat: &Seat| !seat.may_be_gone;
                    let is_early = group.seats_of(user).any(stays);
                    assert!(!is_early, "too early: {what}");
                    group
                        .seats
                        .retain(|(each, _), seat| each != user || !seat.may_be_gone);
                }
            }
        }
    }

    /// Every change has its events, and a sweep has announced all departures.
    pub(super) fn nothing_untold(&mut self) {
        let is_sweep = matches!(self.cause, Cause::Swept);
        for (name, group) in &mut self.groups {
            if is_sweep {
                group.seats.retain(|_, seat| !seat.overdue);
            }
            let what = || format!("{name} after {:?}: {group:?}", self.cause);
            for user in &group.announced {
                assert!(group.stays(user).1, "{user} was left behind: {}", what());
            }
            for user in &group.stored {
                assert!(group.announced.contains(user), "{user}: {}", what());
            }
            for ((user, _), seat) in &group.seats {
                let is_told = seat.may_be_gone || group.announced.contains(user);
                assert!(is_told, "{user} is not announced: {}", what());
            }
        }
        self.cause = Cause::Nothing;
    }

    /// The members of a group now, and the announced ones.
    pub(in super::super) fn looked(
        &self,
        at: Bracket,
        name: &GroupId,
        now: &[UserId],
        announced: &[UserId],
    ) {
        let none = Group::default();
        let group = self.groups.get(name).unwrap_or(&none);
        let what = || format!("{name} at {at:?}: {now:?} {announced:?} {group:?}");
        assert!(group.announced.iter().eq(announced), "{}", what());
        assert!(now.is_sorted(), "{}", what());
        for user in now {
            assert!(group.is_member(user, at).1, "{user}: {}", what());
        }
        for user in &group.announced {
            let is_missing = now.binary_search(user).is_err() && group.is_member(user, at).0;
            assert!(!is_missing, "{user}: {}", what());
        }
    }

    /// Whether a user is a member of a group, and the groups of the user.
    pub(in super::super) fn looked_at_user(
        &self,
        at: Bracket,
        user: &UserId,
        (name, is_member): (&GroupId, bool),
        groups: &[GroupId],
    ) {
        let none = Group::default();
        let group = self.groups.get(name).unwrap_or(&none);
        let (surely, maybe) = group.is_member(user, at);
        let range = surely..=maybe;
        assert!(range.contains(&is_member), "{user} in {name}: {group:?}");
        for (name, group) in &self.groups {
            let what = || format!("{user} in {name} at {at:?}: {groups:?} {group:?}");
            let is_listed = groups.contains(name);
            let (surely, _) = group.is_member(user, at);
            assert!(is_listed || !surely, "{}", what());
            assert!(!is_listed || group.announced.contains(user), "{}", what());
        }
    }

    /// An event while the clock was set.
    pub(in super::super) fn announced_while_the_clock_was_set(&mut self, event: &GroupEvent) {
        let group = self.group(&event.group);
        for user in event.users() {
            let is_change = if event.has_joined() {
                group.announced.insert(user.clone())
            } else {
                group.announced.remove(user)
            };
            assert!(is_change, "twice: {event:?}");
        }
    }

    /// Since the clock was set all connections are gone.
    pub(super) fn all_are_gone(&mut self) {
        for (name, group) in &mut self.groups {
            assert_eq!(group.announced, group.stored, "{name}");
            group.seats.clear();
        }
    }
}
