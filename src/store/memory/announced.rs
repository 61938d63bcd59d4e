//! Who is announced, and when to look again at each.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::connection::{Connection, Connections};
use super::outages::Outages;
use crate::model::{Timestamp, UserId};

/// An announced user.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) connections: Connections,
    /// Never after the deadline, unless the departure is held: then when the hold ends.
    look_again: Timestamp,
    /// Whether the departure is held, which happens once.
    held: bool,
}

/// The announced users, by their ids and by when to look again.
#[derive(Debug, Default)]
pub(super) struct AnnouncedUsers {
    users: BTreeMap<UserId, Presence>,
    due: BTreeSet<(Timestamp, UserId)>,
    held: usize,
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

    /// At most `limit` users after `user`, in the order of their ids, and whether there are more.
    pub(super) fn after(&self, user: Option<&UserId>, limit: usize) -> (Vec<UserId>, bool) {
        let from = user.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.users.range::<UserId, _>((from, Bound::Unbounded));
        let page = rest.by_ref().take(limit).map(|(user, _)| user.clone());
        let page = page.collect();
        (page, rest.next().is_some())
    }

    /// How many users are online.
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
            look_again: first.deadline,
            held: false,
            connections: Connections::of(first),
        };
        self.due.insert((presence.look_again, user.clone()));
        self.users.insert(user.clone(), presence);
    }

    pub(super) fn remove(&mut self, user: &UserId) -> Option<(UserId, Presence)> {
        let (user, presence) = self.users.remove_entry(user)?;
        self.due.remove(&(presence.look_again, user.clone()));
        self.held -= usize::from(presence.held);
        Some((user, presence))
    }

    /// When somebody is due next.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The first who is due before `now`.
    pub(super) fn first_due(&self, now: Timestamp) -> Option<UserId> {
        let (at, user) = self.due.first()?;
        (*at < now).then(|| user.clone())
    }

    /// Whether a user who is not online may not come back either: the hold has ended, or there is
    /// no reason for one.
    pub(super) fn is_gone(&self, user: &UserId, now: Timestamp, outages: &Outages) -> bool {
        self.users.get(user).is_none_or(|presence| {
            !presence.connections.is_online(now) && presence.connections.end(outages) < now
        })
    }

    /// Settles when to look again at a user whose connections changed, or who was due and is not
    /// gone.
    pub(super) fn settle(&mut self, user: &UserId, now: Timestamp, outages: &Outages) {
        let Some(presence) = self.users.get_mut(user) else {
            return;
        };
        let was_held = presence.held;
        presence.held = !presence.connections.is_online(now);
        self.held = self.held + usize::from(presence.held) - usize::from(was_held);
        let look_again = match presence.held {
            true => presence.connections.end(outages),
            false => presence.connections.deadline(),
        };
        let known = self.due.take(&(presence.look_again, user.clone()));
        // The id that is kept already, since one of this call would take memory of its own.
        let user = known.map_or_else(|| user.clone(), |(_, user)| user);
        self.due.insert((look_again, user));
        presence.look_again = look_again;
    }

    /// Whether a user may be left as it is until it is due: pings that only move a deadline away
    /// are found then.
    pub(super) fn is_settled(&self, user: &UserId) -> bool {
        self.users.get(user).is_none_or(|presence| {
            !presence.held && presence.look_again <= presence.connections.deadline()
        })
    }
}
