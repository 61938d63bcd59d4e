//! When nobody swept, so that perhaps nobody could be pinged either.

use std::collections::VecDeque;

use super::connection::Connection;
use crate::model::Timestamp;
use crate::store::SHORTEST_OUTAGE;

/// How many outages are known. Older ones are forgotten, after which a departure may be held for a
/// later one instead, but still only once.
const MOST_OUTAGES: usize = 1_000;

/// From the last sweep before an outage to the first after it. Whether it counts as one is decided for each grant.
#[derive(Clone, Copy, Debug)]
struct Outage {
    from: Timestamp,
    to: Timestamp,
}

/// The newest outages, in the order of time.
#[derive(Debug, Default)]
pub(super) struct Outages {
    swept: Option<Timestamp>,
    known: VecDeque<Outage>,
}

impl Outages {
    /// Sweeps are possible `now`.
    pub(super) fn swept(&mut self, now: Timestamp) {
        self.notice(now);
        self.swept = Some(now);
    }

    /// Records an outage that ends `now`. Every change begins with this: after an outage it may come before the
    /// first sweep.
    pub(super) fn notice(&mut self, now: Timestamp) {
        let Some(from) = self
            .swept
            .filter(|swept| now.since(*swept) > SHORTEST_OUTAGE)
        else {
            return;
        };
        if self.known.len() == MOST_OUTAGES {
            self.known.pop_front();
        }
        self.known.push_back(Outage { from, to: now });
        self.swept = Some(now);
    }

    /// Whether an outage that is not known yet may have begun before `deadline`.
    pub(super) fn may_have_met_one(&self, deadline: Timestamp) -> bool {
        self.swept.is_none_or(|swept| deadline >= swept)
    }

    /// When `connection` cannot come back any more by a ping that an outage delayed: at its deadline, or as long after
    /// the earliest outage that it did not absorb as its client may need for a ping. What later outages took of that
    /// time is given back, until one such time after the deadline or, if the earliest outage outlasted that, until two
    /// after this outage.
    pub(super) fn end_of(&self, connection: &Connection) -> Timestamp {
        let pinged = connection.pinged();
        let first = self.known.partition_point(|outage| outage.to <= pinged);
        let mut met = self
            .known
            .range(first..)
            .take_while(|outage| outage.from < connection.deadline);
        let missed = met.find(|outage| !connection.grant.absorbs(outage.to.since(outage.from)));
        let Some(missed) = missed else {
            return connection.deadline;
        };
        let (deadline, hold) = (connection.deadline, connection.grant.hold());
        let held_until = missed.to.plus(hold);
        let latest = match deadline < missed.to {
            true => held_until.plus(hold),
            false => deadline.plus(hold),
        };
        let later = self.known.partition_point(|outage| outage.from < missed.to);
        let prolonged =
            self.known
                .range(later..)
                .try_fold(held_until, |until, outage| match outage.from < until {
                    true => Ok(until.plus(outage.to.since(outage.from))),
                    false => Err(until),
                });
        let prolonged = prolonged.unwrap_or_else(|until| until).min(latest);
        prolonged.max(held_until).max(deadline)
    }
}
