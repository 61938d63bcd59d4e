//! What callers were answered, beside what was announced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::timestamp::Timestamp;

use super::super::journal::{Call, Outcome, Record};
use super::super::readers::MARKER;
use super::{Event, Excused};

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
    let tells = |call: &Call| {
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
    let calls = calls.iter().copied();
    let calls: Vec<&Call> = calls
        .filter(|call| tells(call) || call.is_uncertain())
        .collect();
    let (fits, causes) = pairs(&events, &calls);
    for event in without_partner(&causes, calls.len()) {
        wrong.push(format!("nobody caused {:?}", events[event]));
    }
    let told: Vec<usize> = (0..calls.len())
        .filter(|call| tells(calls[*call]))
        .collect();
    let fits: Vec<Vec<usize>> = told.iter().map(|call| fits[*call].clone()).collect();
    for place in without_partner(&fits, events.len()) {
        let call = calls[told[place]];
        let mut losses = record.losses.iter();
        if !losses.any(|loss| loss.overlaps(call.sent, call.ended.plus(UNHEARD))) {
            wrong.push(format!("no event for {call:?}"));
        }
    }
}

/// The events that each call may have caused, since it was under way at their moment; and for each event those calls.
fn pairs(events: &[&Event], calls: &[&Call]) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
    let moments = events.iter().enumerate();
    let moments = moments.flat_map(|(event, each)| each.moments.iter().map(move |at| (*at, event)));
    let mut moments: Vec<(Timestamp, usize)> = moments.collect();
    moments.sort_unstable();
    let mut causes = vec![Vec::new(); events.len()];
    let mut fits = Vec::new();
    for (call, each) in calls.iter().enumerate() {
        let (from, to) = (
            each.sent.less(CLOCK_TOLERANCE),
            each.over().plus(CLOCK_TOLERANCE),
        );
        let first = moments.partition_point(|(at, _)| *at < from);
        let under_way = moments[first..].iter().take_while(|(at, _)| *at <= to);
        let under_way: Vec<usize> = under_way.map(|(_, event)| *event).collect();
        under_way.iter().for_each(|event| causes[*event].push(call));
        fits.push(under_way);
    }
    (fits, causes)
}

/// Gives each of several a partner of its own, as many as can have one, and returns those that have none.
fn without_partner(choices: &[Vec<usize>], partners: usize) -> Vec<usize> {
    let mut taken_by = vec![None; partners];
    let mut asked_for = vec![usize::MAX; partners];
    let alone = |one: &usize| !find_partner(*one, *one, choices, &mut taken_by, &mut asked_for);
    (0..choices.len()).filter(alone).collect()
}

/// Finds a partner for `one`; whoever has it already finds another. `attempt` tells one search from the next.
fn find_partner(
    one: usize,
    attempt: usize,
    choices: &[Vec<usize>],
    taken_by: &mut [Option<usize>],
    asked_for: &mut [usize],
) -> bool {
    for &partner in &choices[one] {
        if asked_for[partner] == attempt {
            continue;
        }
        asked_for[partner] = attempt;
        let owner = taken_by[partner];
        let makes_room = |other| find_partner(other, attempt, choices, taken_by, asked_for);
        if owner.is_none_or(makes_room) {
            taken_by[partner] = Some(one);
            return true;
        }
    }
    false
}
