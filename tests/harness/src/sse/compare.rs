//! Events of streams beside what is expected.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use super::Event;
use crate::names::partitions_of_tests;

/// An event of one partition comes at most this much after a later event of another one.
const LATE: Duration = Duration::from_millis(200);

/// With several partitions, waits until the events before an event that has come have come, too.
pub async fn late_events() {
    if partitions_of_tests() > 1 {
        sleep(LATE).await;
    }
}

/// Asserts that two streams told the same changes, apart from markers: users whose ids begin with `marker`. With
/// several partitions, only the events about one user have an order.
pub fn assert_same_changes(told: &[Event], others: &[Event]) {
    let changes = |events: &[Event]| {
        let changes = events.iter().map(|event| {
            assert!(event.is_change(), "{event:?}");
            (event.user(), event.name.clone(), event.data.clone())
        });
        let mut changes: Vec<_> = changes
            .filter(|(user, _, _)| !user.starts_with("marker"))
            .collect();
        if partitions_of_tests() > 1 {
            changes.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        }
        changes
    };
    assert_eq!(changes(told), changes(others));
}

/// [`Event::brief`] of all events. With several partitions, changes of different users may come in any order; their
/// briefs have the order of their times.
pub fn briefs(events: &[Event]) -> Vec<String> {
    let mut events: Vec<&Event> = events.iter().collect();
    if partitions_of_tests() > 1 && events.iter().all(|event| event.is_change()) {
        events.sort_by_key(|event| event.timestamp());
    }
    events.into_iter().map(Event::brief).collect()
}

/// The changes of each user in order: `online`, or the reason of an offline. Panics if the changes of a user do not
/// alternate, beginning with `online`.
pub fn alternating(events: &[Event]) -> BTreeMap<String, Vec<String>> {
    let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let transitions = events.iter().filter(|event| event.is_change());
    for event in transitions.filter(|event| event.name != "user.updated") {
        let history = histories.entry(event.user()).or_default();
        let due = if history.len().is_multiple_of(2) {
            "user.online"
        } else {
            "user.offline"
        };
        assert_eq!(event.name, due, "{event:?} after {history:?}");
        history.push(match &*event.name {
            "user.online" => "online".to_owned(),
            _ => event.reason(),
        });
    }
    histories
}
