//! What each reader was told makes sense by itself, and beside what the callers know.

use std::collections::{BTreeMap, HashMap};

use super::super::callers::living;
use super::super::journal::{Call, Outcome, Record, Span};
use super::super::readers::{Change, Chapter, Tale};
use super::super::stage::{PING_INTERVAL, TTL};
use crate::timestamp::Timestamp;

/// How much the clocks of Redis and of the callers may differ when seen through an answer, in ms.
const CLOCK_TOLERANCE_MS: i64 = 20;

/// Per user, what a reader hears alternates, from a snapshot or a reset on.
pub(super) fn alternating(tale: &Tale) -> Vec<String> {
    let mut wrong = Vec::new();
    for chapter in &tale.chapters {
        let mut online: HashMap<&str, bool> = HashMap::new();
        for change in &chapter.changes {
            let comes = change.reason.is_empty();
            let base = chapter.base.as_ref();
            let known = online.insert(&change.user, comes);
            let known = known.or(base.map(|base| base.contains(&change.user)));
            if known == Some(comes) {
                wrong.push(format!("{}: again {change:?}", tale.name));
            }
            if !tale.is_about(&change.user) {
                wrong.push(format!("{}: not asked for {change:?}", tale.name));
            }
        }
    }
    wrong
}

/// Who is online after the last word of a reader that began with a snapshot.
pub(super) fn online_in_the_end(chapter: &Chapter) -> Option<Vec<String>> {
    let mut online = chapter.base.clone()?;
    for change in &chapter.changes {
        match change.reason.is_empty() {
            true => online.insert(change.user.clone()),
            false => online.remove(&change.user),
        };
    }
    Some(online.into_iter().collect())
}

/// Nobody hears of an event from after a loss of data without having been told of the loss, nobody is told of a loss
/// that there was not, and nobody is told anything else.
pub(super) fn losses_are_told(tale: &Tale, losses: &[Span]) -> Vec<String> {
    let mut wrong = Vec::new();
    let after = |loss: &&Span, moment: Timestamp| loss.to.is_some_and(|to| to < moment);
    for chapter in &tale.chapters {
        for change in &chapter.changes {
            let untold = losses
                .iter()
                .rfind(|loss| after(loss, change.at))
                .filter(|loss| chapter.began < loss.from);
            if let Some(loss) = untold {
                wrong.push(format!("{}: {loss:?} untold at {change:?}", tale.name));
            }
        }
    }
    let resets = tale.chapters.iter().filter_map(|each| each.reset.as_ref());
    let (lost, others): (Vec<_>, Vec<_>) = resets.partition(|reason| *reason == "data-lost");
    if lost.len() > losses.len() {
        let (told, were) = (lost.len(), losses.len());
        wrong.push(format!("{}: {told} losses told, {were} were", tale.name));
    }
    if others.iter().any(|reason| *reason != "snapshot-incomplete") {
        wrong.push(format!("{}: resets for {others:?}", tale.name));
    }
    let last = tale.chapters.last().map(|chapter| chapter.began);
    if losses.last().is_some_and(|loss| last < Some(loss.from)) {
        wrong.push(format!("{}: the last loss is untold", tale.name));
    }
    wrong
}

/// Nobody is announced gone who was promised to be online still, and the living never are.
pub(super) fn departures_are_due(changes: &[Change], record: &Record) -> Vec<String> {
    let mut calls: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &record.calls {
        calls.entry(&call.user).or_default().push(call);
    }
    let living = living();
    let mut wrong = Vec::new();
    for gone in changes.iter().filter(|change| change.reason == "expired") {
        let calls = calls.get(&*gone.user).map_or(&[][..], Vec::as_slice);
        if let Some(promise) = broken_promise(gone, calls, &record.losses) {
            wrong.push(format!("{gone:?} against {promise:?}"));
        }
        if living.contains(&gone.user) && kept_trying(gone, calls) {
            wrong.push(format!("{gone:?} although it pinged"));
        }
    }
    wrong
}

/// An answer from before the user was announced gone that says it would be online then.
fn broken_promise<'a>(gone: &Change, calls: &[&'a Call], losses: &[Span]) -> Option<&'a Call> {
    let promises = calls.iter().filter(|call| {
        let Outcome::Touched { expires_at, .. } = call.outcome else {
            return false;
        };
        call.ended < gone.at && expires_at.millis_after(gone.at) > CLOCK_TOLERANCE_MS
    });
    let mut broken = promises.filter(|promise| {
        let closed = calls.iter().any(|call| {
            let same = call.connection.is_none() || call.connection == promise.connection;
            !call.is_touch() && same && call.over() >= promise.sent && call.sent <= gone.at
        });
        let lost = losses
            .iter()
            .any(|loss| loss.from <= gone.at && loss.to.is_none_or(|to| promise.sent <= to));
        !closed && !lost
    });
    broken.next().copied()
}

/// Whether the user tried to ping at least once in each ping interval before it was announced gone, answered or not;
/// a machine too busy to run the callers proves nothing.
fn kept_trying(gone: &Change, calls: &[&Call]) -> bool {
    let mut tried = gone.at.less(TTL);
    for call in calls {
        if call.sent > gone.at {
            break;
        }
        if call.sent > tried {
            if call.sent.millis_after(tried) > PING_INTERVAL.as_millis() as i64 {
                return false;
            }
            tried = call.sent;
        }
    }
    gone.at.millis_after(tried) <= PING_INTERVAL.as_millis() as i64
}
