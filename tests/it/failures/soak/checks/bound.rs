//! Outages inside a hold that together are longer than the bound allows, and processes that look throttled. The hold
//! then ends before living users can ping; see "One hold, prolonged within a bound" in `docs/decisions.md`.

use std::time::Duration;

use harness::timestamp::Timestamp;

use super::super::journal::{Call, Outcome, Record};
use super::super::stage::{HOLD, TTL};
use super::Event;
use super::departures::HEARTBEAT;

/// A process that runs for a shorter time between two outages may be throttled.
const A_MOMENT: Duration = Duration::from_millis(1_500);

/// The reason of an early departure.
pub(super) const PASSED: &str = "more outages in the hold than its bound allows";

/// Whether outages explain the departure of a user that was pinging. `calls` are those of the user.
pub(super) fn was_passed(gone: &Event, calls: &[&Call], record: &Record) -> bool {
    let stamp = gone.change.stamp;
    let mut moments = gone.moments.iter();
    moments.any(|at| was_passed_at(*at, stamp, calls, record))
}

fn was_passed_at(at: Timestamp, stamp: Timestamp, calls: &[&Call], record: &Record) -> bool {
    let answers = calls.iter().filter_map(|call| match call.outcome {
        Outcome::Touched { expires_at, .. } if call.ended < at => Some((call.sent, expires_at)),
        _ => None,
    });
    let Some((pinged, expires_at)) = answers.max_by_key(|(sent, _)| *sent) else {
        return false;
    };
    let deadline = record.corrected(expires_at, TTL, pinged, at);
    let mut outages: Vec<_> = record.pauses.iter().collect();
    outages.retain(|pause| pinged < pause.ended && pause.from < at);
    outages.sort_unstable_by_key(|pause| pause.from);
    // A store counts an outage from the last sweep before it.
    let begins_by = |latest: Timestamp| {
        outages
            .iter()
            .rposition(|pause| record.shown_before(pause.from) <= latest)
    };
    let hold_ms = HOLD.as_millis() as i64;
    let is_after_a_hold = stamp.millis_after(deadline) >= hold_ms;
    let explains = |place: usize| {
        let (outage, later) = (outages[place], &outages[place + 1..]);
        if record.shown_before(outage.swept.min(at)) <= deadline {
            return is_after_a_hold && !later.is_empty();
        }
        let taken_ms: i64 = later
            .iter()
            .map(|pause| record.shown_between(pause.from, pause.swept.min(at)))
            .sum();
        let before = place.checked_sub(1).map(|before| outages[before]);
        let looks_throttled = outage.is_still
            && before.is_some_and(|before| {
                let ran_for = outage.from.millis_after(before.swept);
                ran_for < A_MOMENT.as_millis() as i64
            });
        taken_ms > hold_ms || looks_throttled && is_after_a_hold
    };
    let places = [deadline, deadline.plus(HEARTBEAT)].map(begins_by);
    places.into_iter().flatten().any(explains)
}

#[cfg(test)]
mod tests {
    use super::super::super::journal::{Clock, Pause, Verb};
    use super::super::super::readers::Change;
    use super::*;

    /// A record of one user, in milliseconds since the last answered ping.
    struct Story {
        start: Timestamp,
        record: Record,
    }

    impl Story {
        fn new() -> Self {
            let start = Timestamp::parse("2026-01-01T00:00:00.000Z").expect("a time");
            let mut story = Self {
                start,
                record: Record::default(),
            };
            story.set_clock(-10_000, 0);
            story.pinged(0, true);
            story
        }

        fn at(&self, ms: i64) -> Timestamp {
            self.start.later_by(ms)
        }

        fn set_clock(&mut self, at_ms: i64, ahead_ms: i64) {
            let from = self.at(at_ms);
            self.record.clock.push(Clock { from, ahead_ms });
        }

        /// A ping that an instance answers or refuses at once.
        fn pinged(&mut self, at_ms: i64, answered: bool) {
            let sent = self.at(at_ms);
            let ahead_ms = self.record.clock.last().map_or(0, |clock| clock.ahead_ms);
            let outcome = if answered {
                Outcome::Touched {
                    became_online: false,
                    expires_at: sent.later_by(ahead_ms).plus(TTL),
                    is_in_groups: true,
                }
            } else {
                Outcome::Refused
            };
            self.record.calls.push(Call {
                user: "living-00000".to_owned(),
                verb: Verb::Ping,
                connection: Some("1"),
                instance: 0,
                sent,
                ended: sent.later_by(1),
                outcome,
            });
        }

        fn stalled(&mut self, from_ms: i64, to_ms: i64) {
            self.record.pauses.push(Pause {
                from: self.at(from_ms),
                ended: self.at(to_ms),
                swept: self.at(to_ms + 300),
                is_still: false,
            });
        }

        fn stood_still(&mut self, from_ms: i64, to_ms: i64) {
            self.stalled(from_ms, to_ms);
            if let Some(pause) = self.record.pauses.last_mut() {
                pause.is_still = true;
            }
        }

        fn stepped_ahead(&mut self, at_ms: i64, ahead_ms: i64) {
            self.set_clock(at_ms + 1, ahead_ms);
            self.stalled(at_ms, at_ms);
        }

        fn explains_a_departure(&self, at_ms: i64) -> bool {
            let (at, clock) = (self.at(at_ms), &self.record.clock);
            let ahead_ms = clock.last().map_or(0, |clock| clock.ahead_ms);
            let gone = Event {
                change: Change {
                    id: "1.1.1".into(),
                    user: "living-00000".into(),
                    reason: "expired".into(),
                    stamp: at.later_by(ahead_ms),
                },
                moments: vec![at],
            };
            let calls: Vec<&Call> = self.record.calls.iter().collect();
            was_passed(&gone, &calls, &self.record)
        }
    }

    #[test]
    fn a_long_second_outage_in_the_hold_explains_a_departure() {
        let mut stepped = Story::new();
        stepped.stalled(200, 3_500);
        stepped.pinged(3_700, false);
        stepped.stepped_ahead(4_000, 7_000);
        assert!(stepped.explains_a_departure(4_300));
        let mut stalled = Story::new();
        stalled.stalled(200, 2_500);
        stalled.stalled(3_500, 7_000);
        assert!(stalled.explains_a_departure(7_200));
    }

    #[test]
    fn one_outage_explains_no_departure() {
        let mut stalled = Story::new();
        stalled.stalled(200, 9_000);
        assert!(!stalled.explains_a_departure(9_100));
        let mut stepped = Story::new();
        stepped.stepped_ahead(1_000, 8_000);
        assert!(!stepped.explains_a_departure(1_300));
        assert!(!Story::new().explains_a_departure(6_000));
    }

    #[test]
    fn a_second_outage_that_is_shorter_than_a_hold_explains_no_departure() {
        let mut story = Story::new();
        story.stalled(200, 3_500);
        story.stalled(4_500, 6_000);
        assert!(!story.explains_a_departure(6_200));
    }

    #[test]
    fn an_outage_before_an_answered_ping_explains_no_departure() {
        let mut story = Story::new();
        story.stalled(-4_000, -1_000);
        story.stalled(200, 6_500);
        assert!(!story.explains_a_departure(6_700));
        let mut story = Story::new();
        story.stalled(200, 3_500);
        story.pinged(4_000, true);
        story.stepped_ahead(4_500, 8_000);
        assert!(!story.explains_a_departure(4_800));
    }

    #[test]
    fn no_outage_explains_a_departure_before_the_bound() {
        let mut story = Story::new();
        story.stalled(200, 600);
        story.stalled(900, 2_600);
        story.stalled(3_300, 3_900);
        assert!(!story.explains_a_departure(4_100));
        assert!(story.explains_a_departure(5_600));
    }

    #[test]
    fn the_outage_of_the_deadline_explains_no_departure_after_it() {
        let mut stalled = Story::new();
        stalled.stalled(200, 1_500);
        stalled.stalled(1_600, 4_500);
        assert!(!stalled.explains_a_departure(4_600));
        assert!(!stalled.explains_a_departure(5_600));
        stalled.stalled(5_700, 8_500);
        assert!(stalled.explains_a_departure(9_600));
        let mut stepped = Story::new();
        stepped.stalled(200, 1_500);
        stepped.stepped_ahead(1_600, 8_000);
        assert!(!stepped.explains_a_departure(1_950));
    }

    #[test]
    fn a_process_that_looks_throttled_explains_a_departure_one_hold_after_the_deadline() {
        let mut story = Story::new();
        story.stood_still(200, 1_500);
        story.stood_still(1_600, 5_700);
        assert!(!story.explains_a_departure(5_400));
        assert!(story.explains_a_departure(5_800));
        let mut only_once = Story::new();
        only_once.stood_still(1_600, 5_700);
        assert!(!only_once.explains_a_departure(5_800));
        let mut redis = Story::new();
        redis.stood_still(200, 1_500);
        redis.stalled(1_600, 5_700);
        assert!(!redis.explains_a_departure(5_800));
    }

    /// The expiry in the answer is by the clock before the step.
    #[test]
    fn after_a_step_back_the_bound_is_earlier_too() {
        let mut story = Story::new();
        story.record.clock[0].ahead_ms = 20_000;
        story.record.calls.clear();
        story.pinged(0, true);
        story.set_clock(100, 12_000);
        story.stalled(200, 2_500);
        story.stalled(3_500, 7_000);
        assert!(story.explains_a_departure(7_200));
        assert!(!story.explains_a_departure(5_000));
    }
}
