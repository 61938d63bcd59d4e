//! The outages: times without a sweep, in which clients may have been unable to ping.

use std::collections::VecDeque;

use crate::model::Timestamp;
use crate::store::lifetimes::Grant;
use crate::store::policy::SHORTEST_OUTAGE;

/// The maximum number of known outages. If older ones are dropped, a departure may be held for a later one instead, but
/// still only once.
const MAX_OUTAGES: usize = 1_000;

/// A time without a sweep, from the last sweep before it. Whether it is an outage depends on each grant.
#[derive(Clone, Copy, Debug)]
struct Outage {
    from: Timestamp,
    to: Timestamp,
}

/// The newest outages in order of time.
#[derive(Debug, Default)]
pub(super) struct Outages {
    swept: Option<Timestamp>,
    known: VecDeque<Outage>,
}

impl Outages {
    /// Notes a sweep. Returns the time of the sweep before.
    pub(super) fn swept(&mut self, now: Timestamp) -> Option<Timestamp> {
        let former = self.swept;
        self.notice(now);
        self.swept = Some(now);
        former
    }

    /// The time of the last sweep.
    pub(super) fn last_sweep(&self) -> Option<Timestamp> {
        self.swept
    }

    /// Records the time without a sweep that ends `now`, if it is long enough. Every change begins with this, because
    /// after an outage a change may come before the first sweep.
    pub(super) fn notice(&mut self, now: Timestamp) {
        let Some(from) = self
            .swept
            .filter(|swept| now.since(*swept) > SHORTEST_OUTAGE)
        else {
            return;
        };
        if self.known.len() == MAX_OUTAGES {
            self.known.pop_front();
        }
        self.known.push_back(Outage { from, to: now });
        self.swept = Some(now);
    }

    /// Whether an outage that is not recorded yet may have begun before `deadline`, because no sweep followed
    /// `deadline`.
    pub(super) fn may_have_met_one(&self, deadline: Timestamp) -> bool {
        self.swept.is_none_or(|swept| deadline >= swept)
    }

    /// When the hold of a connection ends: at its deadline or, if it met outages that it did not absorb and that left
    /// less time than a hold before the deadline, one hold after the earliest of them. Later outages during the hold
    /// prolong it, until one hold after the deadline at most or, if the earliest outage ended after the deadline, until
    /// two holds after that outage.
    pub(super) fn end_of(&self, deadline: Timestamp, grant: Grant) -> Timestamp {
        let (pinged, hold) = (deadline.minus(grant.ttl()), grant.hold());
        let first = self.known.partition_point(|outage| outage.to <= pinged);
        let mut met = self
            .known
            .range(first..)
            .take_while(|outage| outage.from < deadline);
        let missed = met.find(|outage| {
            !grant.absorbs(outage.to.since(outage.from)) && outage.to.plus(hold) > deadline
        });
        let Some(missed) = missed else {
            return deadline;
        };
        let held_until = missed.to.plus(hold);
        let latest = if deadline < missed.to {
            held_until.plus(hold)
        } else {
            deadline.plus(hold)
        };
        let later = self.known.partition_point(|outage| outage.from < missed.to);
        let mut prolonged = held_until;
        for outage in self.known.range(later..) {
            if outage.from >= prolonged {
                break;
            }
            prolonged = prolonged.plus(outage.to.since(outage.from));
        }
        prolonged.min(latest).max(held_until)
    }
}
