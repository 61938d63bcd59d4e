use std::collections::BTreeMap;
use std::time::Duration;

use presence::model::Closing;
use presence::model::{ConnectionId, Timestamp};

use super::{Bracket, Grant};

/// How long the pings of a closed connection are refused.
const CLOSED: Duration = Duration::from_secs(10);

/// From the last sweep before it to the first call or sweep after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) from: Bracket,
    pub(super) to: Bracket,
    /// Whether it was long enough to be one, whatever the clocks say.
    pub(super) certain: bool,
    pub(super) ended: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) deadline: Bracket,
    pub(super) grant: Grant,
}

impl Connection {
    fn pinged(&self) -> Bracket {
        self.deadline.minus(self.grant.ttl)
    }

    /// When it cannot come back any more: at its deadline, or when the hold after the earliest outage that it did not
    /// absorb ends.
    fn end(&self, outages: &[Outage]) -> Bracket {
        let mut end = self.deadline;
        for (place, outage) in outages.iter().enumerate() {
            let (pinged, absorbed) = (self.pinged(), self.grant.absorbed());
            let longest = outage.to.minus(absorbed);
            let possible = outage.to.latest > pinged.earliest
                && outage.from.earliest < self.deadline.latest
                && longest.latest > outage.from.earliest;
            if !possible {
                continue;
            }
            let certain = outage.certain
                && pinged.surely_before(outage.to)
                && outage.from.surely_before(self.deadline)
                && outage.from.surely_before(longest);
            let held = self.hold_after(outage, &outages[place + 1..]);
            let held = held.or_later(self.deadline);
            if certain && end == self.deadline {
                return held;
            }
            end.latest = end.latest.max(held.latest);
            if certain {
                break;
            }
        }
        end
    }
}

impl Connection {
    /// When the hold ends that began with the end of `outage`: what `later` ones took of it is given back, until one
    /// hold after the deadline or, where the outage outlasted that, until two after the outage.
    fn hold_after(&self, outage: &Outage, later: &[Outage]) -> Bracket {
        let hold = self.grant.hold();
        let (once, twice) = (outage.to.plus(hold), outage.to.plus(2 * hold));
        let mut end = once;
        for each in later {
            if each.from.earliest < end.latest {
                let taken = each.to.latest - each.from.earliest;
                end.latest = end.latest.saturating_add(taken);
            }
        }
        end.latest = end
            .latest
            .min(twice.or_later(self.deadline.plus(hold)).latest);
        // More than the first a store need not know of when it settles the end.
        let first = later.first().filter(|first| {
            let is_part = first.certain && first.from.surely_before(once);
            is_part && self.deadline.surely_before(outage.to)
        });
        if let Some(first) = first {
            let taken = first.to.earliest.saturating_sub(first.from.latest);
            end.earliest = (end.earliest + taken).min(twice.earliest);
        }
        end
    }
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    /// From a moment on; surely, or only if the connection was still open.
    Closed { at: Bracket, surely: bool },
    /// It connected since.
    Opened,
}

#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) announced: bool,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    /// The last ping that a store surely knows of when it finds the user gone: as of when the user came online, was
    /// swept, or closed a connection. A later ping of the unnamed connection writes nothing but a time to live.
    pub(super) known: Option<Bracket>,
    /// When the user was last alive, as far as closed connections and the last event tell.
    closed_at: Option<Bracket>,
    /// Whether a connection that came may have taken the place of one that might have come back.
    crowded: bool,
    /// Whether something was closed before the clock was set.
    marked_before_a_step: bool,
    /// What was closed; `None` is all.
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
        match online {
            true => assert!(!self.surely_offline(at), "offline: {self:?} at {at:?}"),
            false => assert!(!self.surely_online(at), "online: {self:?} at {at:?}"),
        }
    }

    /// Whether a connection is alive or may still come back: surely, and possibly.
    pub(super) fn may_return(&self, at: Bracket, outages: &[Outage]) -> (bool, bool) {
        let mut ends = self.connections.values().map(|each| each.end(outages));
        let surely = ends.clone().any(|end| at.surely_before(end));
        let surely = self.surely_online(at) || surely && !self.crowded;
        (surely, ends.any(|end| !end.surely_before(at)))
    }

    /// Whether as many others as are allowed are alive: surely, and possibly.
    pub(super) fn is_full_beside(
        &self,
        connection: &ConnectionId,
        most: usize,
        at: Bracket,
    ) -> (bool, bool) {
        let others = || self.connections.iter().filter(|(id, _)| *id != connection);
        let surely = others().filter(|(_, each)| at.surely_before(each.deadline));
        let maybe = others().filter(|(_, each)| !each.deadline.surely_before(at));
        (surely.count() >= most, maybe.count() >= most)
    }

    /// Whether the pings of a connection are refused: surely, and possibly.
    pub(super) fn is_closed(&self, connection: &ConnectionId, at: Bracket) -> (bool, bool) {
        let until = |at: Bracket| at.plus(CLOSED);
        let closed = |mark: Option<&Mark>| match mark {
            Some(Mark::Closed { at: closed, surely }) => (
                *surely && at.surely_before(until(*closed)),
                !until(*closed).surely_before(at),
            ),
            Some(Mark::Opened) | None => (false, false),
        };
        // What was opened since all were closed has a mark of its own.
        let one = self.marks.get(&Some(connection.clone()));
        let (surely, maybe) = closed(one.or_else(|| self.marks.get(&None)));
        (surely, maybe || self.marked_before_a_step)
    }

    /// The clock was set: what was closed before may count for longer, or not as long.
    pub(super) fn clock_was_set(&mut self) {
        self.marked_before_a_step |= !self.marks.is_empty();
        self.marks.clear();
        if let Some(seen) = &mut self.closed_at {
            // Nobody was seen later than now, which may be earlier now.
            seen.earliest = 0;
        }
    }

    /// A ping was refused, so a connection that may have been open was.
    pub(super) fn surely_closed(&mut self, connection: &ConnectionId, at: Bracket) {
        let mark = self.marks.get_mut(&Some(connection.clone()));
        if let Some(Mark::Closed { at: closed, surely }) = mark {
            *surely |= at.surely_before(closed.plus(CLOSED));
        }
    }

    pub(super) fn open(
        &mut self,
        id: &ConnectionId,
        connection: Connection,
        most: usize,
        (outages, swept): (&[Outage], Option<Bracket>),
    ) {
        let pinged = connection.pinged();
        let others = self.connections.iter().filter(|(other, _)| *other != id);
        // An outage that nobody knows yet may have begun with the last sweep.
        let there = others.filter(|(_, other)| {
            let unswept = swept.is_none_or(|swept| !other.deadline.surely_before(swept));
            unswept || !other.end(outages).surely_before(pinged)
        });
        self.crowded |= there.count() >= most;
        self.connections.insert(id.clone(), connection);
        self.marks.insert(Some(id.clone()), Mark::Opened);
    }

    pub(super) fn close(
        &mut self,
        closing: &Closing,
        at: Bracket,
        outages: &[Outage],
        stays: bool,
    ) {
        let closed = match closing {
            Closing::One(id) => self.connections.remove_entry(id).into_iter().collect(),
            Closing::All => std::mem::take(&mut self.connections),
        };
        if *closing == Closing::All {
            self.marks.clear();
            self.marks.insert(None, Mark::Closed { at, surely: true });
        }
        // A connection that may or may not have expired may or may not have been closed now.
        for (id, connection) in closed {
            let surely = at.surely_before(connection.deadline);
            if connection.end(outages).surely_before(at) && connection.deadline.surely_before(at) {
                // Whether one that is over and not swept counts as open is left to the store.
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

    /// A connection was closed, and the user was alive then, or when it pinged last.
    fn seen_at(&mut self, at: Bracket, surely: bool, pinged: Bracket) {
        let earliest = if surely { at.earliest } else { pinged.earliest };
        let seen = Bracket { earliest, ..at };
        self.closed_at = Some(self.closed_at.map_or(seen, |before| before.or_later(seen)));
    }

    /// A connection is not there any more, and its last ping may or may not be remembered.
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

    /// When the last ping of a connection that is not closed was.
    pub(super) fn pinged(&self) -> Option<Bracket> {
        let pinged = self.connections.values().map(Connection::pinged);
        pinged.reduce(Bracket::or_later)
    }

    /// What is to be said of when the user was seen: the last ping or the last closing. Of one who is gone, a store
    /// may know no later ping than when it looked last.
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
