//! The connections of an announced user.

use super::outages::Outages;
use crate::model::{Closing, Refusal};
use crate::model::{ConnectionId, Timestamp};
use crate::store::lifetimes::Grant;

/// A connection of a user. The connection has expired if its deadline is before now. It is *held*, and can come back,
/// until [`Outages::end_of`].
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) deadline: Timestamp,
    pub(super) grant: Grant,
}

impl Connection {
    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        self.deadline >= now
    }

    /// When the hold of the connection ends.
    fn end(&self, outages: &Outages) -> Timestamp {
        outages.end_of(self.deadline, self.grant)
    }

    /// The time of the connect or the last ping.
    pub(super) fn pinged(&self) -> Timestamp {
        self.deadline.minus(self.grant.ttl())
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

    pub(super) fn alive(&self, now: Timestamp) -> impl Iterator<Item = &Connection> {
        self.each.iter().filter(move |each| each.is_alive(now))
    }

    pub(super) fn is_online(&self, now: Timestamp) -> bool {
        self.alive(now).next().is_some()
    }

    /// Whether a connection is alive or held.
    pub(super) fn may_return(&self, now: Timestamp, outages: &Outages) -> bool {
        self.end(outages) >= now && !self.each.is_empty()
    }

    pub(super) fn has(&self, id: &ConnectionId) -> bool {
        self.each.iter().any(|connection| connection.id == *id)
    }

    /// The last moment at which the user was known to be alive.
    pub(super) fn last_seen(&self) -> Timestamp {
        let pinged = self.each.iter().map(Connection::pinged);
        pinged.max().unwrap_or_default().max(self.seen)
    }

    /// Opens or refreshes a connection. Refused if `limit` other connections are alive.
    pub(super) fn refresh(
        &mut self,
        refreshed: Connection,
        limit: u32,
        now: Timestamp,
        outages: &Outages,
    ) -> Result<(), Refusal> {
        if let Some(known) = self.each.iter_mut().find(|each| each.id == refreshed.id) {
            *known = refreshed;
            return Ok(());
        }
        self.remove_ended(now, outages);
        let room = usize::try_from(limit).unwrap_or(usize::MAX);
        if self.each.len() >= room {
            // A held connection makes room for one that is alive.
            let expired = self.each.iter().filter(|each| !each.is_alive(now));
            let first = expired.min_by_key(|each| each.end(outages));
            let first = first.map(|each| each.id.clone());
            let first = first.ok_or(Refusal::TooManyConnections { most: limit })?;
            self.remove(|each| each.id == first);
        }
        self.each.push(refreshed);
        Ok(())
    }

    /// Closes connections. Returns whether one of them was alive or held.
    pub(super) fn close(&mut self, closing: &Closing, now: Timestamp, outages: &Outages) -> bool {
        self.remove_ended(now, outages);
        let is_closed = |each: &Connection| match closing {
            Closing::One(closed) => each.id == *closed,
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
        self.remove(|connection| {
            connection.end(outages) < now && !outages.may_have_met_one(connection.deadline)
        });
    }

    fn remove(&mut self, is_removed: impl Fn(&Connection) -> bool) {
        let removed = self.each.extract_if(.., |each| is_removed(each));
        let pinged = removed.map(|connection| connection.pinged());
        self.seen = pinged.fold(self.seen, Timestamp::max);
    }
}
