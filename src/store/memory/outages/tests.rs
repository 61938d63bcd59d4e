//! Random outages, and the two promises about a departure: it waits at most for one hold, and a client that could not
//! ping is not announced as gone.

mod script;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::millis;

/// All times are in milliseconds.
const START: u64 = 10_000_000;

#[derive(Clone, Debug)]
struct Story {
    ttl: u64,
    interval: u64,
    /// The last ping after the start.
    pinged: u64,
    /// For how long sweeps run, and for how long not, in turn.
    turns: Vec<(u64, u64)>,
}

fn story() -> impl Strategy<Value = Story> {
    let ttl = prop_oneof![Just(60_000_u64), 1_000_u64..80_000];
    ttl.prop_flat_map(|ttl| {
        let interval = prop_oneof![Just(ttl * 25 / 60), ttl / 10..ttl];
        // Some of the times are near those that the rule compares.
        let runs = prop_oneof![10_u64..1_500, 10..ttl, Just(ttl / 3)];
        let stalls = prop_oneof![501_u64..2_000, 501..ttl + 1_000, Just(ttl * 2)];
        let turns = prop::collection::vec((runs, stalls), 0..12);
        (interval, 0..2 * ttl, turns).prop_map(move |(interval, pinged, turns)| Story {
            ttl,
            interval,
            pinged,
            turns,
        })
    })
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(START + ms)
}

fn ms(at: Timestamp) -> u64 {
    at.as_millis() - START
}

impl Story {
    fn grant(&self) -> Grant {
        let [ttl, interval] = [self.ttl, self.interval].map(Duration::from_millis);
        Grant::of(ttl, interval)
    }

    fn hold(&self) -> u64 {
        millis(self.grant().hold())
    }

    fn stalls(&self) -> Vec<(u64, u64)> {
        let mut now = 0;
        let stalls = self.turns.iter().map(|(run, stall)| {
            let from = now + run;
            now = from + stall;
            (from, now)
        });
        stalls.collect()
    }

    /// The last ping: a ping in a stall is answered when the stall ends.
    fn pinged(&self) -> u64 {
        let stalls = self.stalls();
        let met = stalls
            .iter()
            .find(|(from, to)| (from..to).contains(&&self.pinged));
        met.map_or(self.pinged, |(_, to)| *to)
    }

    fn deadline(&self) -> u64 {
        self.pinged() + self.ttl
    }

    fn is_absorbed(&self, (from, to): (u64, u64)) -> bool {
        self.grant().absorbs(Duration::from_millis(to - from))
    }

    /// The end of the hold, as the store knows it after these stalls.
    fn end_after(&self, stalls: &[(u64, u64)]) -> u64 {
        let mut outages = Outages::since(at(0));
        for (from, to) in stalls {
            outages.record(at(*from), at(*to));
        }
        ms(outages.end_of(at(self.deadline()), self.grant()))
    }

    /// The place of the stall in which the deadline passes.
    fn of_deadline(&self) -> Option<usize> {
        let stalls = self.stalls();
        let deadline = self.deadline();
        let of_deadline = |&(from, to): &(u64, u64)| {
            from < deadline && deadline < to && !self.is_absorbed((from, to))
        };
        stalls.iter().position(of_deadline)
    }

    /// Whether the process ran only for a moment before a stall, and the stall before mattered too.
    fn is_throttled(&self, place: usize) -> bool {
        let matters = |place: usize| !self.is_absorbed(self.stalls()[place]);
        let is_short = self.turns[place].0 < millis(OUTAGE);
        place > 0 && is_short && matters(place) && matters(place - 1)
    }

    /// The latest end of the hold.
    fn bound(&self) -> u64 {
        match self.of_deadline() {
            Some(place) if !self.is_throttled(place) => self.stalls()[place].1 + 2 * self.hold(),
            _ => self.deadline() + self.hold(),
        }
    }

    /// The times without a stall from the last ping to `end`. A stall that the grant absorbs does not count.
    fn times_to_ping(&self, stalls: &[(u64, u64)], end: u64) -> Vec<u64> {
        let (mut times, mut since) = (Vec::new(), self.pinged());
        for (from, to) in stalls.iter().filter(|each| !self.is_absorbed(**each)) {
            if *to > since && *from < end {
                times.push(from.saturating_sub(since));
                since = *to;
            }
        }
        times.push(end.saturating_sub(since));
        times
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn a_departure_is_held_once_and_within_the_bound(story in story()) {
        let stalls = story.stalls();
        let end = story.end_after(&stalls);
        prop_assert!(story.deadline() <= end && end <= story.bound(), "{end} {story:?}");
        // What comes later changes nothing.
        let known = stalls.partition_point(|(from, _)| *from < end);
        prop_assert_eq!(end, story.end_after(&stalls[..known]));
    }

    #[test]
    fn a_departure_that_met_no_outage_is_not_held(story in story()) {
        let (pinged, deadline) = (story.pinged(), story.deadline());
        let stalls = story.stalls();
        let has_met = stalls.iter().any(|(from, to)| {
            *to > pinged && *from < deadline && !story.is_absorbed((*from, *to))
        });
        if !has_met {
            prop_assert_eq!(deadline, story.end_after(&stalls));
        }
    }

    /// No user that had no time to ping is announced as gone. The test leaves out outages that begin after the
    /// deadline, within the hold, and the outages of a throttled process.
    #[test]
    fn a_user_that_had_no_time_to_ping_is_not_announced(story in story()) {
        let all = story.stalls();
        for known in 0..=all.len() {
            let stalls = &all[..known];
            let end = story.end_after(stalls);
            let of_deadline = story.of_deadline().filter(|place| *place < known);
            if of_deadline.is_some_and(|place| story.is_throttled(place)) {
                continue;
            }
            let held_from = of_deadline.map_or(story.deadline(), |place| stalls[place].1);
            if stalls.iter().any(|(from, _)| *from >= held_from && *from < end) {
                continue;
            }
            let times = story.times_to_ping(stalls, end);
            let is_enough = times.len() == 1 || times.iter().any(|time| *time >= story.hold());
            prop_assert!(is_enough, "{end} {times:?} {story:?}");
        }
    }

    /// Other outages within the hold do not shorten it until it reaches its bound.
    #[test]
    fn a_hold_within_the_bound_lasts_for_its_whole_length(story in story()) {
        let (stalls, deadline) = (story.stalls(), story.deadline());
        let end = story.end_after(&stalls);
        if end == deadline || end == story.bound() {
            return Ok(());
        }
        let before = |(from, _): &&(u64, u64)| *from < deadline;
        let holds = |each: &&(u64, u64)| !story.is_absorbed(**each);
        let held_from = stalls.iter().take_while(before).filter(holds).map(|(_, to)| *to);
        let held_from = held_from.last().expect("an outage holds the departure");
        let taken = stalls.iter().enumerate().filter(|(place, (from, _))| {
            *from >= held_from && *from < end && !story.is_throttled(*place)
        });
        let taken: u64 = taken.map(|(_, (from, to))| to - from).sum();
        prop_assert_eq!(end, held_from + story.hold() + taken, "{:?}", story);
    }

    /// A process runs for `awake` with each request and stands still for `pause` in between. If the deadline passes
    /// before the second pause, the process does not look throttled yet.
    #[test]
    fn a_throttled_process_announces_with_the_first_request_after_one_hold(
        ttl in 2_000_u64..80_000,
        (share, pause, awake) in (0.1_f64..0.95, 0.02_f64..0.95, 1_u64..1_400),
    ) {
        let of_ttl = |share: f64| (ttl as f64 * share) as u64;
        let (interval, pause) = (of_ttl(share), of_ttl(pause).max(501));
        let turns = vec![(awake, pause); (3 * ttl / pause + 4) as usize];
        let story = Story { ttl, interval, pinged: 0, turns };
        let stalls = story.stalls();
        let known = if story.of_deadline() == Some(0) { stalls[0].1 } else { 0 };
        let due = story.deadline().max(known) + story.hold();
        let (_, request) = stalls.iter().find(|(_, to)| *to > due).expect("a request");
        let known = stalls.partition_point(|(_, to)| to <= request);
        prop_assert!(story.end_after(&stalls[..known]) < *request, "{story:?}");
    }
}
