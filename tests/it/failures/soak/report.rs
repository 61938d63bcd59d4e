//! The report of a run.

use std::time::Duration;

use super::checks::Findings;
use super::faults;
use super::journal::{Call, Outcome, Record};
use super::readers::Tale;

/// A run of this length has every fault.
const LONG: Duration = Duration::from_secs(300);

/// Prints the traffic, the events, and the faults.
pub(super) fn print(tales: &[Tale], record: &Record, findings: &Findings) {
    let calls = |is: fn(&Call) -> bool| record.calls.iter().filter(|call| is(call)).count();
    let chapters = || tales.iter().flat_map(|tale| &tale.chapters);
    let heard: usize = chapters().map(|chapter| chapter.changes.len()).sum();
    let expired = findings.events.iter().filter(|event| event.is_expiry());
    let rows = [
        ("calls", record.calls.len()),
        (
            "  refused (503)",
            calls(|call| matches!(call.outcome, Outcome::Refused)),
        ),
        (
            "  pings of closed connections (409)",
            calls(|call| matches!(call.outcome, Outcome::Closed)),
        ),
        (
            "  unanswered",
            calls(|call| matches!(call.outcome, Outcome::Unanswered(_))),
        ),
        ("events", findings.events.len()),
        ("  of them expiries", expired.count()),
        ("changes of the members of the group", findings.moves.len()),
        (
            "  of them expiries",
            findings
                .moves
                .iter()
                .filter(|each| each.is_expiry())
                .count(),
        ),
        ("readers", tales.len()),
        ("  events heard", heard),
        (
            "  streams opened",
            tales.iter().map(|tale| tale.streams).sum(),
        ),
        (
            "  resets",
            chapters().filter(|chapter| chapter.reset.is_some()).count(),
        ),
        ("losses of data", record.losses.len()),
        ("found wrong", findings.wrong.len()),
    ];
    println!();
    for (name, count) in rows {
        println!("{count:>8}  {name}");
    }
    println!("\n excused, and why");
    for ((what, why), count) in &findings.excused {
        println!("{count:>8}  {what}: {why}");
    }
    println!("\n survived");
    for name in faults::names() {
        let count = record.faults.get(name).copied().unwrap_or_default();
        println!("{count:>8}  {name}");
    }
}

/// Checks that the run had traffic, events and faults.
pub(super) fn assert_telling(record: &Record, findings: &Findings, duration: Duration) {
    let long = duration >= LONG;
    let count: usize = record.faults.values().sum();
    assert!(count >= 4, "{count} faults");
    assert!(
        findings.events.len() > 50,
        "{} events",
        findings.events.len()
    );
    assert!(
        findings.moves.len() > 20,
        "{} changes of the members of the group",
        findings.moves.len()
    );
    let missing: Vec<_> = faults::names()
        .filter(|name| !record.faults.contains_key(name))
        .collect();
    assert!(!long || missing.is_empty(), "never happened: {missing:?}");
    let expired = findings.events.iter().filter(|event| event.is_expiry());
    assert!(!long || expired.count() > 20, "too few expiries");
}
