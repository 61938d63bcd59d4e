//! The connections of an announced user.

use std::time::Duration;

use super::outages::Outages;
use crate::model::{Closing, GroupId, LiveConnection, Refusal, Stated};
use crate::model::{ConnectionId, Timestamp};
use crate::store::lifetimes::Grant;

/// A connection of a user. The connection has expired if its deadline is before now. It is *held*, and can come back,
/// until [`Outages::end_of`].
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) deadline: Timestamp,
    pub(super) grant: Grant,
    pub(super) away: bool,
    /// The groups that the connection states.
    pub(super) groups: Box<[GroupId]>,
    /// Set for a connection that was closed with a grace period. Boxed, because few connections leave at a time.
    leaving: Option<Box<Leaving>>,
}

/// A disconnect with a grace period.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    called: Timestamp,
    pinged: Timestamp,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, now: Timestamp, grant: Grant, stated: &Stated) -> Self {
        Self {
            id,
            deadline: now.plus(grant.ttl()),
            grant,
            away: stated.away,
            groups: stated.groups.clone(),
            leaving: None,
        }
    }

    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        self.deadline >= now
    }

    /// When the hold of the connection ends. A connection that leaves is not held.
    fn end(&self, outages: &Outages) -> Timestamp {
        match self.leaving {
            Some(_) => self.deadline,
            None => outages.end_of(self.deadline, self.grant),
        }
    }

    /// Whether the connection is alive or held, or an outage that the next sweep may find holds it.
    fn may_count(&self, now: Timestamp, outages: &Outages) -> bool {
        let end = self.end(outages);
        end >= now || outages.may_have_met_one(end)
    }

    /// The time of the connect or the last ping.
    fn pinged(&self) -> Timestamp {
        match &self.leaving {
            Some(leaving) => leaving.pinged,
            None => self.deadline.minus(self.grant.ttl()),
        }
    }

    /// The last moment at which the user of the connection was known to be alive.
    fn seen(&self) -> Timestamp {
        let called = self.leaving.as_ref().map(|leaving| leaving.called);
        called.unwrap_or_else(|| self.pinged())
    }

    pub(super) fn state(&self) -> LiveConnection {
        LiveConnection {
            id: self.id.clone(),
            expires_at: self.deadline,
            pinged_at: self.pinged(),
            ttl: self.grant.ttl(),
            away: self.away,
            leaves_at: self.leaving.as_ref().map(|_| self.deadline),
        }
    }
}

/// The connections of one user that are alive or held, and maybe some that have ended.
#[derive(Debug)]
pub(super) struct Connections {
    each: Vec<Connection>,
    /// The last-seen time according to connections that were removed.
    seen: Timestamp,
}

impl Connections {
    pub(super) fn of(first: Connection) -> Self {
        Self {
            each: vec![first],
            seen: Timestamp::default(),
        }
    }

    /// The latest deadline.
    pub(super) fn deadline(&self) -> Timestamp {
        let deadlines = self.each.iter().map(|connection| connection.deadline);
        deadlines.max().unwrap_or_default()
    }

    /// When the hold of the last connection ends.
    pub(super) fn end(&self, outages: &Outages) -> Timestamp {
        let ends = self.each.iter().map(|connection| connection.end(outages));
        ends.max().unwrap_or_default()
    }

    /// All connections, also those that have ended.
    pub(super) fn all(&self) -> impl Iterator<Item = &Connection> {
        self.each.iter()
    }

    pub(super) fn alive(&self, now: Timestamp) -> impl Iterator<Item = &Connection> {
        self.each.iter().filter(move |each| each.is_alive(now))
    }

    pub(super) fn is_online(&self, now: Timestamp) -> bool {
        self.alive(now).next().is_some()
    }

    /// Whether every connection that is alive or held is away; if only some are, also when the last of the others ends.
    /// `None` without such connections.
    pub(super) fn away(
        &self,
        now: Timestamp,
        outages: &Outages,
    ) -> Option<(bool, Option<Timestamp>)> {
        let counts = |each: &&Connection| each.may_count(now, outages);
        let counted = || self.each.iter().filter(counts);
        counted().next()?;
        let others = counted().filter(|each| !each.away);
        let ends = others.map(|each| {
            if each.is_alive(now) {
                each.deadline
            } else {
                each.end(outages)
            }
        });
        let last = ends.max();
        let some = counted().any(|each| each.away);
        Some((last.is_none(), last.filter(|_| some)))
    }

    /// Whether a connection is alive or held.
    pub(super) fn may_return(&self, now: Timestamp, outages: &Outages) -> bool {
        self.end(outages) >= now && !self.each.is_empty()
    }

    /// Whether there is such a connection, and it does not leave.
    pub(super) fn keeps(&self, id: &ConnectionId) -> bool {
        let mut kept = self.each.iter().filter(|each| each.leaving.is_none());
        kept.any(|connection| connection.id == *id)
    }

    /// Whether the connection that ended last had left with a grace period.
    pub(super) fn has_left(&self) -> bool {
        let last = self
            .each
            .iter()
            .max_by_key(|each| (each.deadline, each.leaving.is_none()));
        last.is_some_and(|last| last.leaving.is_some())
    }

    /// Lets an open connection leave after `grace`. Returns when it ends; `None` if it is not open.
    pub(super) fn leave(
        &mut self,
        id: &ConnectionId,
        grace: Duration,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut open = self.each.iter_mut().filter(|each| each.is_alive(now));
        let leaving = open.find(|each| each.id == *id)?;
        leaving.leaving = Some(Box::new(Leaving {
            called: now,
            pinged: leaving.pinged(),
        }));
        leaving.deadline = leaving.deadline.min(now.plus(grace));
        Some(leaving.deadline)
    }

    /// The last moment at which the user was known to be alive.
    pub(super) fn last_seen(&self) -> Timestamp {
        let seen = self.each.iter().map(Connection::seen);
        seen.max().unwrap_or_default().max(self.seen)
    }

    /// Opens or refreshes a connection. Refused if `limit` other connections are alive and do not leave. Returns the
    /// connection that made room, if there is one.
    pub(super) fn refresh(
        &mut self,
        refreshed: Connection,
        limit: u32,
        now: Timestamp,
        outages: &Outages,
    ) -> Result<Option<Connection>, Refusal> {
        if let Some(known) = self.each.iter_mut().find(|each| each.id == refreshed.id) {
            *known = refreshed;
            return Ok(None);
        }
        self.remove_ended(now, outages);
        let room = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut evicted = None;
        if self.each.len() >= room {
            // A held connection makes room, and then one that leaves.
            let ending = self.each.iter();
            let ending = ending.filter(|each| !each.is_alive(now) || each.leaving.is_some());
            let first = ending.min_by_key(|each| (each.is_alive(now), each.end(outages)));
            let first = first.map(|each| each.id.clone());
            let first = first.ok_or(Refusal::TooManyConnections { most: limit })?;
            evicted = self.each.iter().find(|each| each.id == first).cloned();
            self.remove(|each| each.id == first);
        }
        self.each.push(refreshed);
        Ok(evicted)
    }

    /// Closes connections. Returns whether one of them was alive or held.
    pub(super) fn close(&mut self, closing: &Closing, now: Timestamp, outages: &Outages) -> bool {
        self.remove_ended(now, outages);
        let is_closed = |each: &Connection| match closing {
            Closing::One(closed) | Closing::Later(closed, _) => each.id == *closed,
            Closing::All => true,
        };
        let mut closed = self.each.iter().filter(|each| is_closed(each));
        let was_open = closed.any(|each| each.end(outages) >= now);
        self.remove(is_closed);
        if was_open {
            self.seen = now;
        }
        was_open
    }

    /// Removes ended connections, whose end does not depend on an outage that the next sweep may find.
    fn remove_ended(&mut self, now: Timestamp, outages: &Outages) {
        self.remove(|connection| !connection.may_count(now, outages));
    }

    fn remove(&mut self, is_removed: impl Fn(&Connection) -> bool) {
        let removed = self.each.extract_if(.., |each| is_removed(each));
        let seen = removed.map(|connection| connection.seen());
        self.seen = seen.fold(self.seen, Timestamp::max);
    }
}
