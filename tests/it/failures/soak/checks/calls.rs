//! Answers of calls, compared with the events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::timestamp::Timestamp;

use super::super::journal::{Call, Outcome, Record};
use super::super::readers::MARKER;
use super::{Event, Excused};

/// The promised limit of a call, and additional time for a busy machine.
const PROMISE: Duration = Duration::from_millis(2_300);

/// No reader may have received an event of this time before a loss of data: Redis was flushed, frozen for four seconds
/// while the instances reconnected, and flushed again before they had.
const UNHEARD: Duration = Duration::from_secs(8);

/// The largest difference between the clocks of Redis and of the callers, which are both read in milliseconds.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(4);

/// Each call was carried out within the limit, unless a fault of its instance or of Redis excuses it.
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

/// Events and answers match one for one, at the same time. An event without an answer belongs to a refused or
/// unanswered call, which explains one event. An answer without an event is from just before a loss of data.
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
        wrong.push(format!("no call caused {:?}", events[event]));
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

/// For each call the events that it may have caused, because it was under way at that time; and for each event these
/// calls.
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

/// Matches each item with a partner, as many as possible, and returns the items without one.
fn without_partner(choices: &[Vec<usize>], partners: usize) -> Vec<usize> {
    let mut taken_by = vec![None; partners];
    let mut asked_for = vec![usize::MAX; partners];
    let alone = |one: &usize| !find_partner(*one, *one, choices, &mut taken_by, &mut asked_for);
    (0..choices.len()).filter(alone).collect()
}

/// Finds a partner for `one`. An item that has this partner gets another one. `attempt` identifies the search.
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
