//! What callers were answered, beside what was announced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::journal::{Call, Outcome, Record};
use super::super::readers::MARKER;
use super::{Event, Excused};
use crate::timestamp::Timestamp;

/// Within this time every call is answered, and some more for a machine under load.
const PROMISE: Duration = Duration::from_millis(2_300);

/// What happened in this time before Redis lost its data may have reached no reader: when it was emptied, frozen for four
/// seconds while the instances were making their connections again, and emptied anew before they had.
const UNHEARD: Duration = Duration::from_secs(8);

/// How much the clocks of Redis and of the callers may differ, both being read in ms.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(4);

/// Each call was carried out, and in time, unless a fault of its instance or of Redis had not passed.
pub(super) fn answered_or_harmed(record: &Record, excused: &mut Excused) -> Vec<String> {
    let mut wrong = Vec::new();
    for call in &record.calls {
        let late = call.ended.millis_after(call.sent) > PROMISE.as_millis() as i64;
        let (what, why) = match &call.outcome {
            Outcome::Wrong(answer) => {
                wrong.push(format!("{answer}: {call:?}"));
                continue;
            }
            Outcome::Unanswered(why) => ("call not answered", why.as_str()),
            Outcome::Refused => ("call refused", ""),
            _ if late => ("call answered late", ""),
            _ => continue,
        };
        match record.harm_of(call) {
            Some(fault) => *excused.entry((what, fault)).or_default() += 1,
            None => wrong.push(format!("{what} ({why}): {call:?}")),
        }
    }
    wrong
}

/// The events and the answers that tell of them, one for one and at the same time. An event without an answer is that
/// of a call that was refused or not answered, each of which may account for one; an answer without an event is from
/// just before Redis lost its data.
pub(super) fn told_is_what_happened(events: &[Event], record: &Record) -> Vec<String> {
    let mut by_user: BTreeMap<(&str, bool), Vec<&Event>> = BTreeMap::new();
    let caused = |event: &&Event| !event.is_expiry() && &*event.change.user != MARKER;
    for event in events.iter().filter(caused) {
        let key = (&*event.change.user, event.change.reason.is_empty());
        by_user.entry(key).or_default().push(event);
    }
    let mut calls: BTreeMap<(&str, bool), Vec<&Call>> = BTreeMap::new();
    for call in &record.calls {
        let key = (&*call.user, call.is_touch());
        calls.entry(key).or_default().push(call);
    }
    let mut wrong = Vec::new();
    let keys: BTreeSet<_> = by_user.keys().chain(calls.keys()).copied().collect();
    for key in keys {
        let events = by_user.remove(&key).unwrap_or_default();
        let calls = calls.remove(&key).unwrap_or_default();
        compare(events, &calls, record, &mut wrong);
    }
    wrong
}

fn compare(events: Vec<&Event>, calls: &[&Call], record: &Record, wrong: &mut Vec<String>) {
    let told = |call: &&&Call| {
        matches!(
            call.outcome,
            Outcome::Touched {
                became_online: true,
                ..
            } | Outcome::Left {
                became_offline: true
            }
        )
    };
    let told: Vec<&Call> = calls.iter().filter(told).copied().collect();
    let uncertain: Vec<&Call> = calls
        .iter()
        .filter(|call| call.is_uncertain())
        .copied()
        .collect();
    let (untold, unheard) = pair_off(events, told);
    let (inexplicable, _) = pair_off(untold, uncertain);
    wrong.extend(
        inexplicable
            .iter()
            .map(|event| format!("nobody caused {event:?}")),
    );
    let lost = |call: &&Call| {
        let mut losses = record.losses.iter();
        losses.any(|loss| loss.overlaps(call.sent, call.ended.plus(UNHEARD)))
    };
    let unheard = unheard.iter().filter(|call| !lost(call));
    wrong.extend(unheard.map(|call| format!("no event for {call:?}")));
}

/// Gives each event a call that was under way at its moment, as many as can be; returns what is left of both.
fn pair_off<'a, 'b>(
    mut events: Vec<&'a Event>,
    mut calls: Vec<&'b Call>,
) -> (Vec<&'a Event>, Vec<&'b Call>) {
    let over = |call: &Call| -> Timestamp { call.over().plus(CLOCK_TOLERANCE) };
    events.sort_by_key(|event| event.earliest());
    calls.sort_by_key(|call| over(call));
    events.retain(|event| {
        let fits = |call: &&Call| {
            let mut moments = event.moments.iter();
            moments.any(|at| call.sent.less(CLOCK_TOLERANCE) <= *at && *at <= over(call))
        };
        match calls.iter().position(fits) {
            Some(place) => {
                calls.remove(place);
                false
            }
            None => true,
        }
    });
    (events, calls)
}
