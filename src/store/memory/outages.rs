//! The outages: times without a sweep, in which clients may have been unable to ping.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::model::Timestamp;
use crate::store::lifetimes::Grant;
use crate::store::policy::{OUTAGE, SHORTEST_OUTAGE};

/// The maximum number of known outages. An older one holds no departure.
const MAX_OUTAGES: usize = 1_000;

/// A time without a sweep, from the last sweep before it. Whether it is an outage depends on each grant.
#[derive(Clone, Copy, Debug)]
struct Outage {
    from: Timestamp,
    to: Timestamp,
    /// Whether the process ran for less than [`OUTAGE`] since the outage before. The only cause of outages here is that
    /// the process stands still, so it may then be one that runs only while it serves a request.
    follows_at_once: bool,
}

/// The newest outages in order of time.
#[derive(Debug)]
pub(super) struct Outages {
    /// The first use of the store.
    first_use: Timestamp,
    swept: Option<Timestamp>,
    known: VecDeque<Outage>,
}

impl Outages {
    /// The outages since the first use of the store.
    pub(super) fn since(first_use: Timestamp) -> Self {
        Self {
            first_use,
            swept: None,
            known: VecDeque::new(),
        }
    }

    /// Notes a sweep. Returns the time of the sweep before, or of the first use of the store.
    pub(super) fn swept(&mut self, now: Timestamp) -> Timestamp {
        let former = self.last_served();
        self.notice(now);
        self.swept = Some(now);
        former
    }

    /// The time of the last sweep.
    pub(super) fn last_sweep(&self) -> Option<Timestamp> {
        self.swept
    }

    /// The last time at which clients could ping for sure: that of the last sweep, or of the first use of the store.
    fn last_served(&self) -> Timestamp {
        self.swept.unwrap_or(self.first_use)
    }

    /// Records the time without a sweep that ends `now`, if it is long enough. Every change begins with this, because
    /// after an outage a change may come before the first sweep.
    pub(super) fn notice(&mut self, now: Timestamp) {
        let from = self.last_served();
        if now.since(from) > SHORTEST_OUTAGE {
            self.record(from, now);
            self.swept = Some(now);
        }
    }

    fn record(&mut self, from: Timestamp, to: Timestamp) {
        let last = self.known.back();
        let follows_at_once = last.is_some_and(|last| from.since(last.to) < OUTAGE);
        if self.known.len() == MAX_OUTAGES {
            self.known.pop_front();
        }
        self.known.push_back(Outage {
            from,
            to,
            follows_at_once,
        });
    }

    /// Whether an outage that is not recorded yet may have begun before `end`, the end of a connection or of its hold,
    /// because no sweep followed.
    pub(super) fn may_have_met_one(&self, end: Timestamp) -> bool {
        end >= self.last_served()
    }

    /// When the hold of a connection ends: at its deadline if no outage holds the departure. Of the outages before the
    /// deadline that the grant does not absorb and that left less time than a hold before the deadline, only the last
    /// one counts.
    ///
    /// The departure is held for one hold after that outage. Later outages during the hold prolong it, until one hold
    /// after the deadline at most or, if the deadline passed within the outage, until two holds after the outage.
    ///
    /// Outages of a throttled process prolong no hold. If the deadline passed within one, the hold ends one hold after
    /// the deadline.
    pub(super) fn end_of(&self, deadline: Timestamp, grant: Grant) -> Timestamp {
        let (pinged, hold) = (deadline.minus(grant.ttl()), grant.hold());
        let first = self.known.partition_point(|outage| outage.to <= pinged);
        let last = self.known.partition_point(|outage| outage.from < deadline);
        let missed = (first..last).rev().find(|place| {
            let outage = &self.known[*place];
            outage.matters_to(grant) && outage.to.plus(hold) > deadline
        });
        let Some(place) = missed else {
            return deadline;
        };
        let missed = &self.known[place];
        let held_until = missed.to.plus(hold);
        let passed_within = deadline < missed.to;
        if passed_within && self.is_of_a_throttled_process(place, grant) {
            return deadline.plus(hold);
        }
        let latest = if passed_within { held_until } else { deadline }.plus(hold);
        let mut prolonged = held_until;
        for place in place + 1..self.known.len() {
            let outage = &self.known[place];
            if outage.from >= prolonged {
                break;
            }
            if !self.is_of_a_throttled_process(place, grant) {
                prolonged = prolonged.plus(outage.to.since(outage.from));
            }
        }
        prolonged.min(latest).max(held_until)
    }

    /// Whether an outage and the one before it may be those of a process that runs only while it serves a request: both
    /// are too long for the grant, and the process ran only for a moment in between.
    fn is_of_a_throttled_process(&self, place: usize, grant: Grant) -> bool {
        let outage = &self.known[place];
        let before = place.checked_sub(1).map(|before| &self.known[before]);
        outage.follows_at_once
            && outage.matters_to(grant)
            && before.is_some_and(|before| before.matters_to(grant))
    }
}

impl Outage {
    fn matters_to(&self, grant: Grant) -> bool {
        !grant.absorbs(self.to.since(self.from))
    }
}
