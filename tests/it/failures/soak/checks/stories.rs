//! The events of each reader are consistent.

use std::collections::HashMap;

use super::super::readers::{Chapter, Tale};

/// The events of each user alternate, after a snapshot or a reset.
pub(super) fn alternating(tale: &Tale) -> Vec<String> {
    let mut wrong = Vec::new();
    for chapter in &tale.chapters {
        let mut online: HashMap<&str, bool> = HashMap::new();
        for (_, change) in &chapter.changes {
            let comes = change.reason.is_empty();
            let base = chapter.base.as_ref();
            let known = online.insert(&change.user, comes);
            let base = base.map(|base| base.contains(&*change.user));
            // A snapshot of the group has no members that are offline.
            let base = base.filter(|is_online| *is_online || !tale.of_group);
            let known = known.or(base);
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

/// The online users after the last event of a reader that began with a snapshot.
pub(super) fn online_in_the_end(chapter: &Chapter) -> Option<Vec<String>> {
    let mut online = chapter.base.clone()?;
    for (_, change) in &chapter.changes {
        if change.reason.is_empty() {
            online.insert(change.user.to_string());
        } else {
            online.remove(&*change.user);
        }
    }
    Some(online.into_iter().collect())
}
