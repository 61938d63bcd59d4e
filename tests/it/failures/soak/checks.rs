//! The invariants. Each check returns its violations as text.

mod bound;
mod calls;
mod closings;
mod departures;
mod order;
mod resets;
mod stories;

use std::collections::BTreeMap;

use harness::timestamp::Timestamp;

use super::callers::{is_in_room, living};
use super::journal::Record;
use super::readers::{Change, MARKER, Tale};

/// The number of violations that are printed.
const SHOWN: usize = 12;

/// A change that a reader received.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) change: Change,
    /// The possible times of the change. There may be several if the clock of Redis was set back.
    pub(super) moments: Vec<Timestamp>,
}

impl Event {
    pub(super) fn is_expiry(&self) -> bool {
        &*self.change.reason == "expired"
    }

    /// The earliest possible time.
    fn earliest(&self) -> Timestamp {
        self.moments[0]
    }

    /// The latest possible time.
    fn latest(&self) -> Timestamp {
        self.moments[self.moments.len() - 1]
    }
}

/// The number of violations that a fault excuses, by check and reason.
pub(super) type Excused = BTreeMap<(&'static str, &'static str), usize>;

/// The results of all checks.
pub(super) struct Findings {
    /// Every event that a reader received, once.
    pub(super) events: Vec<Event>,
    /// Every change of the members of the group that a reader received, once.
    pub(super) moves: Vec<Event>,
    pub(super) wrong: Vec<String>,
    pub(super) excused: Excused,
}

impl Findings {
    /// Runs all checks. `wrong` holds earlier violations.
    pub(super) fn of(tales: &[Tale], record: &Record, mut wrong: Vec<String>) -> Self {
        let mut excused = Excused::new();
        let (of_group, of_users): (Vec<&Tale>, Vec<&Tale>) =
            tales.iter().partition(|tale| tale.of_group);
        let events = events_of(&of_users, record, &mut wrong);
        let moves = events_of(&of_group, record, &mut wrong);
        for tale in tales {
            wrong.extend(stories::alternating(tale));
            wrong.extend(resets::losses_are_told(tale, record));
            wrong.extend(resets::nothing_else_is(tale, record, &mut excused));
        }
        wrong.extend(of_users.iter().filter_map(|tale| wrong_in_the_end(tale)));
        wrong.extend(of_group.iter().filter_map(|tale| wrong_in_the_room(tale)));
        wrong.extend(departures::no_seat_ends_early(&moves, record, &mut excused));
        wrong.extend(departures::no_seat_is_overdue(&moves, record, &mut excused));
        wrong.extend(departures::none_is_early(&events, record, &mut excused));
        wrong.extend(departures::none_is_late(&events, record, &mut excused));
        wrong.extend(calls::answered_or_harmed(record, &mut excused));
        wrong.extend(calls::told_is_what_happened(&events, record));
        wrong.extend(closings::refuse_late_pings_and_no_others(record));
        Self {
            events,
            moves,
            wrong,
            excused,
        }
    }

    /// The first violations, as text.
    pub(super) fn worst(&self) -> String {
        let shown = &self.wrong[..self.wrong.len().min(SHOWN)];
        let count = self.wrong.len();
        format!("{count} found wrong, such as\n{}", shown.join("\n"))
    }
}

/// The changes that readers received, in one sequence and with the possible times.
fn events_of(tales: &[&Tale], record: &Record, wrong: &mut Vec<String>) -> Vec<Event> {
    let (changes, mut out_of_order) = order::one_sequence(tales);
    wrong.append(&mut out_of_order);
    let mut events = Vec::new();
    for (heard, change) in changes {
        let mut moments = record.moments_of(change.stamp, heard);
        moments.sort_unstable();
        if moments.is_empty() {
            wrong.push(format!(
                "Redis showed no such time: {change:?}, heard {heard:?}"
            ));
        } else {
            events.push(Event { change, moments });
        }
    }
    events
}

/// Checks that in the end exactly the pinging users of the group are its online members for a reader of the group.
fn wrong_in_the_room(tale: &Tale) -> Option<String> {
    let here = &tale.chapters.last()?.here;
    let mut here: Vec<&String> = here.iter().collect();
    here.retain(|user| *user != MARKER);
    let mut expected = living();
    expected.retain(|user| is_in_room(user));
    let is_wrong = !here.iter().copied().eq(&expected);
    is_wrong.then(|| format!("{}: {here:?} in the end", tale.name))
}

/// Checks that in the end exactly the pinging users and the marker are online for a reader that began with a snapshot.
fn wrong_in_the_end(tale: &Tale) -> Option<String> {
    let mut online = stories::online_in_the_end(tale.chapters.last()?)?;
    online.retain(|user| user != MARKER);
    let mut expected = living();
    expected.retain(|user| tale.is_about(user));
    (online != expected).then(|| format!("{}: {online:?} in the end", tale.name))
}
