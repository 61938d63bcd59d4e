//! The announced users, and when to check each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::connection::{Connection, Connections};
use super::outages::Outages;
use crate::model::{Timestamp, UserId};

/// An announced user.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) connections: Connections,
    /// When to check the user: the end of the hold if its departure is held, else not after the deadline.
    check_at: Timestamp,
    /// Whether the departure is held, which happens once.
    held: bool,
    /// Whether the user is announced as away.
    pub(super) away: bool,
    /// When to look whether the user became away without a call.
    change_at: Option<Timestamp>,
}

/// The announced users, by id and by the time of their next check.
#[derive(Debug, Default)]
pub(super) struct AnnouncedUsers {
    users: BTreeMap<UserId, Presence>,
    due: BTreeSet<(Timestamp, UserId)>,
    held: usize,
    /// The users by the time of the next look at whether they are away.
    changes: BTreeSet<(Timestamp, UserId)>,
}

impl AnnouncedUsers {
    pub(super) fn get(&self, user: &UserId) -> Option<&Presence> {
        self.users.get(user)
    }

    pub(super) fn get_mut(&mut self, user: &UserId) -> Option<&mut Presence> {
        self.users.get_mut(user)
    }

    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    pub(super) fn is_online(&self, user: &UserId, now: Timestamp) -> bool {
        let presence = self.users.get(user);
        presence.is_some_and(|presence| presence.connections.is_online(now))
    }

    /// At most `limit` users after `user`, ordered by id, and whether there are more.
    pub(super) fn after(&self, user: Option<&UserId>, limit: usize) -> (Vec<UserId>, bool) {
        let from = user.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.users.range::<UserId, _>((from, Bound::Unbounded));
        let page = rest.by_ref().take(limit).map(|(user, _)| user.clone());
        let page = page.collect();
        (page, rest.next().is_some())
    }

    /// The number of online users.
    pub(super) fn count_online(&self, now: Timestamp) -> usize {
        let due = self.due.iter().take_while(|(at, _)| *at < now);
        let gone = due.filter(|(_, user)| {
            let presence = self.users.get(user);
            presence.is_some_and(|presence| !presence.held && !presence.connections.is_online(now))
        });
        self.users.len() - self.held - gone.count()
    }

    pub(super) fn enter(&mut self, user: &UserId, first: Connection) {
        let presence = Presence {
            check_at: first.deadline,
            held: false,
            away: first.away,
            change_at: None,
            connections: Connections::of(first),
        };
        self.due.insert((presence.check_at, user.clone()));
        self.users.insert(user.clone(), presence);
    }

    pub(super) fn remove(&mut self, user: &UserId) -> Option<(UserId, Presence)> {
        let (user, presence) = self.users.remove_entry(user)?;
        self.due.remove(&(presence.check_at, user.clone()));
        self.held -= usize::from(presence.held);
        if let Some(at) = presence.change_at {
            self.changes.remove(&(at, user.clone()));
        }
        Some((user, presence))
    }

    /// Updates whether the user is away, from its connections. Returns whether that changed.
    pub(super) fn update_away(&mut self, user: &UserId, now: Timestamp, outages: &Outages) -> bool {
        let Some(presence) = self.users.get_mut(user) else {
            return false;
        };
        let Some((away, next)) = presence.connections.away(now, outages) else {
            return false;
        };
        let is_earlier = |next: &Timestamp| presence.change_at.is_none_or(|at| *next < at);
        if let Some(next) = next.filter(is_earlier) {
            if let Some(at) = presence.change_at.replace(next) {
                self.changes.remove(&(at, user.clone()));
            }
            self.changes.insert((next, user.clone()));
        }
        std::mem::replace(&mut presence.away, away) != away
    }

    /// When to check the first user that may become away.
    pub(super) fn next_change(&self) -> Option<Timestamp> {
        self.changes.first().map(|(at, _)| *at)
    }

    /// The first user that may have become away before `now`. It is not returned again.
    pub(super) fn take_changed(&mut self, now: Timestamp) -> Option<UserId> {
        let (at, _) = self.changes.first()?;
        if *at >= now {
            return None;
        }
        let (_, user) = self.changes.pop_first()?;
        if let Some(presence) = self.users.get_mut(&user) {
            presence.change_at = None;
        }
        Some(user)
    }

    /// When the next user is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// When the first held departure can be announced.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        let is_held = |user| self.users.get(user).is_some_and(|presence| presence.held);
        let mut due = self.due.iter().filter(|_| self.held > 0);
        due.find(|(_, user)| is_held(user)).map(|(at, _)| *at)
    }

    /// The first user that is due before `now`.
    pub(super) fn first_due(&self, now: Timestamp) -> Option<UserId> {
        let (at, user) = self.due.first()?;
        (*at < now).then(|| user.clone())
    }

    /// Whether the user has to be announced as gone: it is offline, and its departure is not held any longer.
    pub(super) fn is_gone(&self, user: &UserId, now: Timestamp, outages: &Outages) -> bool {
        self.users.get(user).is_none_or(|presence| {
            !presence.connections.is_online(now) && presence.connections.end(outages) < now
        })
    }

    /// Settles the next check of a user whose connections changed, or that was due and is not gone.
    pub(super) fn settle(&mut self, user: &UserId, now: Timestamp, outages: &Outages) {
        let Some(presence) = self.users.get_mut(user) else {
            return;
        };
        let was_held = presence.held;
        presence.held = !presence.connections.is_online(now);
        self.held = self.held + usize::from(presence.held) - usize::from(was_held);
        let check_at = if presence.held {
            presence.connections.end(outages)
        } else {
            presence.connections.deadline()
        };
        let known = self.due.take(&(presence.check_at, user.clone()));
        // Reuses the stored id, because the id of this call would take additional memory.
        let user = known.map_or_else(|| user.clone(), |(_, user)| user);
        self.due.insert((check_at, user));
        presence.check_at = check_at;
    }

    /// Whether the next check needs no change. A later deadline is found at that check.
    pub(super) fn is_settled(&self, user: &UserId) -> bool {
        self.users.get(user).is_none_or(|presence| {
            !presence.held && presence.check_at <= presence.connections.deadline()
        })
    }
}
