use std::collections::BTreeMap;
use std::time::Duration;

use presence::model::Closing;
use presence::model::{ConnectionId, Timestamp};

use super::{Bracket, Grant, OUTAGE};

/// How long the pings of a closed connection are refused.
const CLOSED: Duration = Duration::from_secs(10);

/// An outage, from the last sweep before it to the first call or sweep after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) from: Bracket,
    pub(super) to: Bracket,
    /// Whether the gap was long enough for an outage, whatever the clocks show.
    pub(super) certain: bool,
    pub(super) ended: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) deadline: Bracket,
    pub(super) grant: Grant,
    pub(super) away: bool,
    /// The time of a disconnect with a grace period.
    pub(super) left: Option<Bracket>,
}

impl Connection {
    fn pinged(&self) -> Bracket {
        match self.left {
            Some(left) => left,
            None => self.deadline.minus(self.grant.ttl),
        }
    }

    /// The time after which the connection cannot come back: its deadline, or the end of the hold after the last outage
    /// that began before the deadline, that it did not absorb, and that left less time than a hold before the deadline.
    pub(super) fn end(&self, outages: &[Outage]) -> Bracket {
        let mut end = self.deadline;
        if self.left.is_some() {
            return end;
        }
        for (place, outage) in outages.iter().enumerate().rev() {
            let (pinged, absorbed) = (self.pinged(), self.grant.absorbed());
            let longest = outage.to.minus(absorbed);
            let held_once = outage.to.plus(self.grant.hold());
            let possible = outage.to.latest > pinged.earliest
                && outage.from.earliest < self.deadline.latest
                && longest.latest > outage.from.earliest
                && held_once.latest > self.deadline.earliest;
            if !possible {
                continue;
            }
            let certain = outage.certain
                && pinged.surely_before(outage.to)
                && outage.from.surely_before(self.deadline)
                && outage.from.surely_before(longest)
                && self.deadline.surely_before(held_once);
            let held = self.hold_after(place, outages);
            let held = held.or_later(self.deadline);
            end.latest = end.latest.max(held.latest);
            if certain {
                // A later outage that holds the departure holds it for longer.
                end.earliest = held.earliest;
                break;
            }
        }
        end
    }

    /// The end of the hold after an outage. The time that later outages took of the hold may be added, up to two holds
    /// after the outage if the deadline may have passed within it, and else up to one hold after the deadline.
    fn hold_after(&self, place: usize, outages: &[Outage]) -> Bracket {
        let (outage, hold) = (&outages[place], self.grant.hold());
        let (once, twice) = (outage.to.plus(hold), outage.to.plus(2 * hold));
        let after_deadline = self.deadline.plus(hold);
        let mut end = once;
        for each in &outages[place + 1..] {
            if each.from.earliest < end.latest {
                let taken = each.to.latest - each.from.earliest;
                end.latest = end.latest.saturating_add(taken);
            }
        }
        end.latest = end.latest.min(twice.or_later(after_deadline).latest);
        if self.may_be_throttled(place, outages) {
            end.earliest = end.earliest.min(after_deadline.earliest);
        } else if let Some(first) = outages.get(place + 1) {
            // When a store fixes the end, it may know the first later outage only.
            let is_part = first.certain && first.from.surely_before(once);
            let passed_within = self.deadline.surely_before(outage.to);
            if is_part && passed_within && !self.may_be_throttled(place + 1, outages) {
                let taken = first.to.earliest.saturating_sub(first.from.latest);
                end.earliest = (end.earliest + taken).min(twice.earliest);
            }
        }
        end
    }

    /// Whether an outage and the one before it may be those of a process that runs only while it serves a request.
    fn may_be_throttled(&self, place: usize, outages: &[Outage]) -> bool {
        let before = place.checked_sub(1).map(|before| &outages[before]);
        before.is_some_and(|before| {
            let ran_for = outages[place]
                .from
                .earliest
                .saturating_sub(before.to.latest);
            Duration::from_millis(ran_for) < OUTAGE
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    /// From a moment on; certainly, or only if the connection was still open.
    Closed { at: Bracket, surely: bool },
    /// The connection was opened since.
    Opened,
}

#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) announced: bool,
    /// Whether the user is announced as away.
    pub(super) away: bool,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    /// The last ping that a store certainly knows when it finds the user expired: that of the connect, of the last
    /// sweep, or of the last disconnect. A later ping of the unnamed connection writes only a TTL.
    pub(super) known: Option<Bracket>,
    /// Whether a connection that had ended after a grace period was closed again. A store may still know it.
    may_have_left: bool,
    /// The last moment at which the user was alive, by its closed connections and its last event.
    closed_at: Option<Bracket>,
    /// Whether a new connection may have taken the place of one that could have come back.
    crowded: bool,
    /// Whether a connection was closed before the clock was set.
    marked_before_a_step: bool,
    /// The closed connections; `None` stands for all of them.
    marks: BTreeMap<Option<ConnectionId>, Mark>,
}

impl User {
    pub(super) fn surely_online(&self, at: Bracket) -> bool {
        let mut connections = self.connections.values();
        connections.any(|each| at.surely_before(each.deadline))
    }

    pub(super) fn surely_offline(&self, at: Bracket) -> bool {
        let mut connections = self.connections.values();
        connections.all(|each| each.deadline.surely_before(at))
    }

    pub(super) fn check_online(&self, at: Bracket, online: bool) {
        if online {
            assert!(!self.surely_offline(at), "offline: {self:?} at {at:?}");
        } else {
            assert!(!self.surely_online(at), "online: {self:?} at {at:?}");
        }
    }

    /// Whether a connection is open or may still come back: certainly, and possibly.
    pub(super) fn may_return(&self, at: Bracket, outages: &[Outage]) -> (bool, bool) {
        let mut ends = self.connections.values().map(|each| each.end(outages));
        let surely = ends.clone().any(|end| at.surely_before(end));
        let surely = self.surely_online(at) || surely && !self.crowded;
        (surely, ends.any(|end| !end.surely_before(at)))
    }

    /// Whether a store may think that a connection may still come back. A store in Redis does not know the last ping of
    /// an only connection, so an outage before this ping or after the deadline may hold its departure too.
    pub(super) fn may_seem_to_return(&self, at: Bracket, outages: &[Outage]) -> bool {
        let mut staying = self.connections.values().filter(|each| each.left.is_none());
        staying.any(|each| {
            let mut assumed = *each;
            assumed.deadline.latest = assumed.deadline.latest.max(at.latest);
            let known = self.known.map(|known| known.plus(each.grant.ttl).earliest);
            assumed.deadline.earliest = known.map_or(0, |known| known.min(each.deadline.earliest));
            let end = assumed.end(outages);
            end != assumed.deadline && !end.surely_before(at)
        })
    }

    /// Whether the other connections reach the limit: certainly, and possibly.
    pub(super) fn is_full_beside(
        &self,
        connection: &ConnectionId,
        most: usize,
        at: Bracket,
    ) -> (bool, bool) {
        let others = || {
            let others = self.connections.iter().filter(|(id, _)| *id != connection);
            others.filter(|(_, each)| each.left.is_none())
        };
        let surely = others().filter(|(_, each)| at.surely_before(each.deadline));
        let maybe = others().filter(|(_, each)| !each.deadline.surely_before(at));
        (surely.count() >= most, maybe.count() >= most)
    }

    /// Whether the pings of a connection are refused: certainly, and possibly.
    pub(super) fn is_closed(&self, connection: &ConnectionId, at: Bracket) -> (bool, bool) {
        let until = |at: Bracket| at.plus(CLOSED);
        let closed = |mark: Option<&Mark>| match mark {
            Some(Mark::Closed { at: closed, surely }) => (
                *surely && at.surely_before(until(*closed)),
                !until(*closed).surely_before(at),
            ),
            Some(Mark::Opened) | None => (false, false),
        };
        // A connection that was opened after all were closed has its own mark.
        let one = self.marks.get(&Some(connection.clone()));
        let (surely, maybe) = closed(one.or_else(|| self.marks.get(&None)));
        (surely, maybe || self.marked_before_a_step)
    }

    /// The clock was set: earlier marks may count for longer or for a shorter time.
    pub(super) fn clock_was_set(&mut self) {
        self.marked_before_a_step |= !self.marks.is_empty();
        self.marks.clear();
        if let Some(seen) = &mut self.closed_at {
            // No last-seen time is later than now, and now may be earlier than before.
            seen.earliest = 0;
        }
    }

    /// A ping was refused, so a connection that may have been open was open.
    pub(super) fn surely_closed(&mut self, connection: &ConnectionId, at: Bracket) {
        let mark = self.marks.get_mut(&Some(connection.clone()));
        if let Some(Mark::Closed { at: closed, surely }) = mark {
            *surely |= at.surely_before(closed.plus(CLOSED));
        }
    }

    /// A connection was opened or refreshed. Returns whether it may have taken the place of another one.
    pub(super) fn open(
        &mut self,
        id: &ConnectionId,
        connection: Connection,
        most: usize,
        (outages, swept): (&[Outage], Bracket),
    ) -> bool {
        let pinged = connection.pinged();
        let others = self.connections.iter().filter(|(other, _)| *other != id);
        // An unknown outage may have begun with the last sweep.
        let there = others.filter(|(_, other)| {
            let unswept = !other.deadline.surely_before(swept);
            unswept || !other.end(outages).surely_before(pinged)
        });
        let is_crowded = there.count() >= most;
        self.crowded |= is_crowded;
        for each in self.connections.values_mut() {
            if is_crowded && each.left.is_some() {
                // It may have given up its place.
                each.deadline.earliest = 0;
            }
        }
        self.connections.insert(id.clone(), connection);
        self.marks.insert(Some(id.clone()), Mark::Opened);
        is_crowded
    }

    /// Whether some connection that counts is not away: certainly, and possibly.
    pub(super) fn is_active(&self, at: Bracket, outages: &[Outage]) -> (bool, bool) {
        let active = || self.connections.values().filter(|each| !each.away);
        (
            active().any(|each| at.surely_before(each.deadline)),
            active().any(|each| !each.end(outages).surely_before(at)),
        )
    }

    /// Whether a connection may have left with a grace period.
    pub(super) fn may_have_left(&self) -> bool {
        self.may_have_left || self.connections.values().any(|each| each.left.is_some())
    }

    /// A connection leaves after a grace period: it was open. Returns when it ends.
    pub(super) fn leave(
        &mut self,
        id: &ConnectionId,
        grace: Duration,
        at: Bracket,
    ) -> Option<Bracket> {
        let leaving = self.connections.get_mut(id)?;
        let end = at.plus(grace);
        leaving.left = Some(at);
        leaving.deadline.earliest = leaving.deadline.earliest.min(end.earliest);
        leaving.deadline.latest = leaving.deadline.latest.min(end.latest);
        let end = leaving.deadline;
        let mark = Mark::Closed {
            at: end,
            surely: true,
        };
        self.marks.insert(Some(id.clone()), mark);
        Some(end)
    }

    pub(super) fn close(
        &mut self,
        closing: &Closing,
        at: Bracket,
        outages: &[Outage],
        stays: bool,
    ) {
        let closed = match closing {
            Closing::One(id) | Closing::Later(id, _) => {
                self.connections.remove_entry(id).into_iter().collect()
            }
            Closing::All => std::mem::take(&mut self.connections),
        };
        if *closing == Closing::All {
            self.marks.clear();
            self.marks.insert(None, Mark::Closed { at, surely: true });
        }
        // A connection that may have expired may have been closed by this call.
        for (id, connection) in closed {
            let surely = at.surely_before(connection.deadline);
            self.may_have_left |= connection.left.is_some() && !surely;
            if connection.end(outages).surely_before(at) && connection.deadline.surely_before(at) {
                // A store may count an expired connection as open until it is swept.
                self.forget(connection.pinged());
            } else {
                self.seen_at(at, surely && stays, connection.pinged());
            }
            if *closing != Closing::All {
                self.marks.insert(Some(id), Mark::Closed { at, surely });
            }
        }
        self.known = match (self.known, self.pinged()) {
            (Some(known), Some(pinged)) if pinged.earliest < known.earliest => Some(pinged),
            (known, _) => known,
        };
    }

    /// A connection was closed, and the user was alive then, or at its last ping.
    fn seen_at(&mut self, at: Bracket, surely: bool, pinged: Bracket) {
        let earliest = if surely { at.earliest } else { pinged.earliest };
        let seen = Bracket { earliest, ..at };
        self.closed_at = Some(self.closed_at.map_or(seen, |before| before.or_later(seen)));
    }

    /// A connection is gone, and its last ping may be remembered or not.
    fn forget(&mut self, pinged: Bracket) {
        let before = self.closed_at.unwrap_or(Bracket {
            earliest: 0,
            latest: 0,
        });
        self.closed_at = Some(Bracket {
            latest: before.latest.max(pinged.latest),
            ..before
        });
    }

    /// The last ping of a connection that is not closed.
    pub(super) fn pinged(&self) -> Option<Bracket> {
        let pinged = self.connections.values().map(Connection::pinged);
        pinged.reduce(Bracket::or_later)
    }

    /// The range of `lastSeenAt`: the last ping or the last disconnect. Of an expired user, a store may know no later
    /// ping than at its last look.
    pub(super) fn last_seen(&self, online: bool) -> Option<Bracket> {
        let mut pinged = self.pinged();
        if !online && let (Some(pinged), Some(known)) = (&mut pinged, self.known) {
            pinged.earliest = pinged.earliest.min(known.earliest);
        }
        match (pinged, self.closed_at) {
            (Some(pinged), Some(closed)) => Some(pinged.or_later(closed)),
            (pinged, closed) => pinged.or(closed),
        }
    }

    pub(super) fn depart(&mut self, last_seen_at: Timestamp) {
        *self = Self {
            closed_at: Some(Bracket::exactly(last_seen_at)),
            marked_before_a_step: self.marked_before_a_step,
            marks: std::mem::take(&mut self.marks),
            ..Self::default()
        };
    }
}
