//! The promises that hold without a processor between requests.

use std::collections::{BTreeMap, BTreeSet};

use harness::timestamp::Timestamp;
use serde_json::Value;

use super::story::{Call, Story, Verb};

/// The longest hold of a departure, from the first sweep after the deadline on: twice the ping interval and margin of
/// [`Settings::mortal`](harness::instance::Settings::mortal).
const LONGEST_HOLD_MS: i64 = 2_000;

/// A departure in the same millisecond as a ping, and the difference of the clocks.
const CLOCK_MS: i64 = 5;

/// An event about a user.
struct Change<'a> {
    user: &'a str,
    is_online: bool,
    expired: bool,
    at: Timestamp,
    name: String,
}

/// What names an event about a user. The `id` of an event of several partitions depends on the reader.
fn name_of(event: &Value) -> String {
    let data = &event["data"];
    format!(
        "{} {} {}",
        event["event"], data["userId"], data["timestamp"]
    )
}

impl<'a> Change<'a> {
    fn of(event: &'a Value) -> Option<Self> {
        let name = event["event"].as_str()?;
        let is_online = match name {
            "user.online" => true,
            "user.offline" => false,
            _ => return None,
        };
        let data = &event["data"];
        Some(Self {
            user: data["userId"].as_str()?,
            is_online,
            expired: data["reason"] == "expired",
            at: Timestamp::parse(data["timestamp"].as_str()?)?,
            name: name_of(event),
        })
    }
}

/// All that is wrong in a story.
pub(super) fn wrong(story: &Story) -> Vec<String> {
    let changes: Vec<Change> = story.events.iter().filter_map(Change::of).collect();
    let mut wrong = refused(story);
    let mut by_user: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in &changes {
        by_user.entry(change.user).or_default().push(change);
    }
    for (user, changes) in &by_user {
        let calls: Vec<&Call> = story
            .calls
            .iter()
            .filter(|call| call.user == *user)
            .collect();
        wrong.extend(not_alternating(user, changes));
        wrong.extend(not_told(user, changes, &calls));
        wrong.extend(early(user, changes, &calls));
        wrong.extend(late(user, changes, &calls, story));
        if changes.last().is_some_and(|last| last.is_online) {
            wrong.push(format!("{user} is announced in the end"));
        }
    }
    wrong.extend(webhooks(story, &changes));
    wrong
}

/// No call fails, although all connections to Redis die again and again, and nothing is left to do in the end.
fn refused(story: &Story) -> Vec<String> {
    let calls = story.calls.iter().filter(|call| {
        let is_late_ping = call.verb == Verb::Ping && call.status == 409;
        call.status != 200 && !is_late_ping
    });
    let held = story.sweeps.last().map(|last| &last.answer["heldUntil"]);
    let held = held.filter(|held| !held.is_null());
    let held = held.map(|held| format!("held in the end: {held}"));
    let calls = calls.map(|call| format!("failed: {call:?}"));
    let sweeps = story.sweeps.iter().filter(|sweep| sweep.status != 200);
    calls
        .chain(held)
        .chain(sweeps.map(|sweep| format!("failed: {sweep:?}")))
        .collect()
}

fn not_alternating(user: &str, changes: &[&Change]) -> Option<String> {
    let expected = (0..changes.len()).map(|place| place.is_multiple_of(2));
    let alternates = changes.iter().map(|change| change.is_online).eq(expected);
    (!alternates).then(|| format!("the events of {user} do not alternate"))
}

/// Exactly one caller is told of each transition by a call.
fn not_told(user: &str, changes: &[&Change], calls: &[&Call]) -> Vec<String> {
    let told = |field: &str| {
        calls
            .iter()
            .filter(|call| call.answer[field] == true)
            .count()
    };
    let came = changes.iter().filter(|change| change.is_online).count();
    let left = changes
        .iter()
        .filter(|change| !change.is_online && !change.expired);
    let pairs = [
        ("becameOnline", told("becameOnline"), came),
        ("becameOffline", told("becameOffline"), left.count()),
    ];
    let wrong = pairs.iter().filter(|(_, told, events)| told != events);
    wrong
        .map(|(field, told, events)| format!("{user}: {told} times {field}, {events} events"))
        .collect()
}

/// The deadline of the last answer before an event that states one, if no disconnect came after it.
fn known_deadline(calls: &[&Call], at: Timestamp) -> Option<Timestamp> {
    let mut calls = calls.iter().rev();
    let last = calls.find(|call| call.status == 200 && call.answered.millis_after(at) < 0)?;
    last.deadline()
}

/// No user expires before the deadline that an answer stated.
fn early(user: &str, changes: &[&Change], calls: &[&Call]) -> Vec<String> {
    let expiries = changes.iter().filter(|change| change.expired);
    let early = expiries.filter(|change| {
        known_deadline(calls, change.at)
            .is_some_and(|deadline| change.at.millis_after(deadline) < -CLOCK_MS)
    });
    early
        .map(|change| format!("{user} expired early, {}", change.name))
        .collect()
}

/// A departure is announced by the first sweep after its hold, if no call announced it before.
fn late(user: &str, changes: &[&Change], calls: &[&Call], story: &Story) -> Vec<String> {
    let mut wrong = Vec::new();
    for change in changes.iter().filter(|change| change.expired) {
        let Some(deadline) = known_deadline(calls, change.at) else {
            continue;
        };
        let mut sweeps = story.sweeps.iter();
        let first = sweeps.find(|sweep| sweep.asked.millis_after(deadline) > CLOCK_MS);
        let Some(first) = first else { continue };
        let bound = sweeps
            .find(|sweep| sweep.asked.millis_after(first.answered) > LONGEST_HOLD_MS)
            .map(|sweep| sweep.answered);
        if bound.is_some_and(|bound| change.at.millis_after(bound) > CLOCK_MS) {
            wrong.push(format!("{user} was announced late, {}", change.name));
        }
    }
    wrong
}

/// The receiver gets every event, in order for each user, by the answer of the first sweep after it at the latest. An
/// event comes again only in the same webhook.
fn webhooks(story: &Story, changes: &[Change]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut seen, mut told) = (BTreeSet::new(), Vec::new());
    for received in &story.received {
        if !seen.insert(received.id().to_owned()) {
            continue;
        }
        let body: Value = serde_json::from_str(&received.body).expect("JSON");
        let events = body["data"]["events"].as_array().expect("a list");
        for event in events {
            told.push((
                name_of(event),
                event["data"]["userId"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                received.arrived,
            ));
        }
    }
    let users: BTreeSet<&str> = changes.iter().map(|change| change.user).collect();
    for user in users {
        let expected = changes.iter().filter(|change| change.user == user);
        let expected: Vec<&str> = expected.map(|change| &*change.name).collect();
        let got = told.iter().filter(|(_, of, _)| of == user);
        let got: Vec<&str> = got.map(|(name, ..)| &**name).collect();
        if got != expected {
            wrong.push(format!("webhooks of {user}: {got:?}, not {expected:?}"));
        }
    }
    for change in changes {
        let sweep =
            { story.sweeps.iter() }.find(|sweep| sweep.asked.millis_after(change.at) > CLOCK_MS);
        let arrived = told.iter().find(|(name, ..)| *name == change.name);
        if let (Some(sweep), Some((_, _, arrived))) = (sweep, arrived)
            && arrived.millis_after(sweep.answered) > CLOCK_MS
        {
            wrong.push(format!("{} came after the sweep {sweep:?}", change.name));
        }
    }
    wrong
}
