//! What must hold, whatever happened. Each check returns what is wrong, in words.

mod calls;
mod order;
mod stories;

use super::callers::living;
use super::journal::Record;
use super::readers::{Change, MARKER, Tale};

/// How many findings are shown in words.
const SHOWN: usize = 12;

/// What came of all the checks.
pub(super) struct Findings {
    /// Every event that any reader heard, once.
    pub(super) events: Vec<Change>,
    pub(super) wrong: Vec<String>,
}

impl Findings {
    /// Checks everything; `wrong` is what was found wrong before.
    pub(super) fn of(tales: &[Tale], record: &Record, mut wrong: Vec<String>) -> Self {
        let (events, mut out_of_order) = order::one_sequence(tales);
        wrong.append(&mut out_of_order);
        for tale in tales {
            wrong.extend(stories::alternating(tale));
            wrong.extend(stories::losses_are_told(tale, &record.losses));
            wrong.extend(wrong_in_the_end(tale));
        }
        wrong.extend(stories::departures_are_due(&events, record));
        wrong.extend(calls::answered_or_harmed(record));
        wrong.extend(calls::told_is_what_happened(&events, record));
        Self { events, wrong }
    }

    /// The first of what was found wrong, in words.
    pub(super) fn worst(&self) -> String {
        let shown = &self.wrong[..self.wrong.len().min(SHOWN)];
        let count = self.wrong.len();
        format!("{count} found wrong, such as\n{}", shown.join("\n"))
    }
}

/// In the end exactly the living are online, and the marker, in the words of a reader that began with a snapshot.
fn wrong_in_the_end(tale: &Tale) -> Option<String> {
    let mut online = stories::online_in_the_end(tale.chapters.last()?)?;
    online.retain(|user| user != MARKER);
    let mut expected = living();
    expected.retain(|user| tale.is_about(user));
    (online != expected).then(|| format!("{}: {online:?} in the end", tale.name))
}
