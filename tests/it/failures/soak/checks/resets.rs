//! Readers are reset after every loss of data, and for no other reason.

use std::time::Duration;

use harness::timestamp::Timestamp;

use super::super::journal::{Record, Span};
use super::super::readers::Tale;
use super::Excused;

/// By then every reader is reset: a dead bus connection is noticed after 7 s, a frozen instance continues after 4 s,
/// and each may have to reconnect to Redis.
const TOLD: Duration = Duration::from_secs(15);

/// No reader receives an event from after a loss without a reset.
pub(super) fn losses_are_told(tale: &Tale, record: &Record) -> Vec<String> {
    let losses = &record.losses;
    let mut wrong = Vec::new();
    let after = |loss: &&Span, moment: Timestamp| loss.to.is_some_and(|to| to < moment);
    for chapter in &tale.chapters {
        for (heard, change) in &chapter.changes {
            let moment = record.moments_of(change.stamp, *heard).into_iter().min();
            let loss = losses
                .iter()
                .rfind(|loss| moment.is_some_and(|moment| after(loss, moment)));
            if let Some(loss) = loss.filter(|loss| chapter.began < loss.from) {
                wrong.push(format!("{}: {loss:?} untold at {change:?}", tale.name));
            }
        }
    }
    let last = tale.chapters.last().map(|chapter| chapter.began);
    if losses.last().is_some_and(|loss| last < Some(loss.from)) {
        wrong.push(format!("{}: the last loss is untold", tale.name));
    }
    wrong
}

/// A reader is reset only after a loss, at most once for each loss, and soon after it.
pub(super) fn nothing_else_is(tale: &Tale, record: &Record, excused: &mut Excused) -> Vec<String> {
    let losses = &record.losses;
    let mut wrong = Vec::new();
    let resets = || {
        let chapters = tale.chapters.iter();
        let resets = chapters.filter_map(|chapter| Some((chapter.began, chapter.reset.as_ref()?)));
        // A resume from before a change of the group begins again, also if the snapshot is cut off then.
        let begins_again = |reason: &str| matches!(reason, "group-changed" | "snapshot-incomplete");
        resets.filter(move |(_, reason)| !(tale.of_group && begins_again(reason)))
    };
    for (at, reason) in resets() {
        let mut near = losses
            .iter()
            .filter(|loss| loss.overlaps(at.less(TOLD), at));
        match near.next() {
            Some(_) => {
                *excused
                    .entry(("stream reset", "Redis lost its data"))
                    .or_default() += 1
            }
            None => wrong.push(format!("{}: reset at {at:?} for {reason}", tale.name)),
        }
    }
    let (told, were) = (resets().count(), losses.len());
    if told > were {
        wrong.push(format!("{}: {told} losses told, {were} were", tale.name));
    }
    wrong
}
