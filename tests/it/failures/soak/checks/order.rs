//! All readers receive the same sequence of events of each partition.

use std::collections::HashMap;

use harness::names::Names;
use harness::timestamp::Timestamp;

use super::super::readers::{Change, Chapter, Tale};

/// Every event of the run by its id, with its place in the sequence.
#[derive(Default)]
struct Sequence {
    changes: HashMap<Box<str>, (Timestamp, Change)>,
    /// The chain of events without a gap, and the place in it.
    places: HashMap<Box<str>, (usize, usize)>,
    chains: Vec<Vec<Box<str>>>,
}

/// Readers of all users receive each event of a partition after the same predecessor, and filtered readers the events
/// of their users in this order, across reconnects and from one reset to the next.
///
/// Returns every event once, with the time of its first arrival, and the violations.
pub(super) fn one_sequence(tales: &[&Tale]) -> (Vec<(Timestamp, Change)>, Vec<String>) {
    let mut wrong = Vec::new();
    let mut sequence = Sequence::default();
    let names = Names::default();
    let mut next: HashMap<&str, &str> = HashMap::new();
    let mut previous: HashMap<&str, &str> = HashMap::new();
    for tale in tales {
        for chapter in &tale.chapters {
            for (heard, change) in &chapter.changes {
                let first = || (*heard, change.clone());
                let known = sequence.changes.entry(change.id.clone());
                let known = known.or_insert_with(first);
                known.0 = known.0.min(*heard);
                if known.1 != *change {
                    wrong.push(format!("{}: two events are {change:?}", tale.name));
                }
            }
            if tale.interest.is_some() {
                continue;
            }
            for pair in pairs(chapter, &names) {
                let [first, second] = pair.map(|change| &*change.id);
                let after = next.insert(first, second);
                let before = previous.insert(second, first);
                if after.is_some_and(|after| after != second)
                    || before.is_some_and(|before| before != first)
                {
                    let name = &tale.name;
                    wrong.push(format!("{name}: others heard something between {pair:?}"));
                }
            }
        }
    }
    // A loop would be a repeated event, which was found already.
    if wrong.is_empty() {
        sequence.chain(&next, &previous);
        let filtered = tales.iter().filter(|tale| tale.interest.is_some());
        wrong.extend(filtered.filter_map(|tale| sequence.skipped_by(tale, &names)));
    }
    (sequence.changes.into_values().collect(), wrong)
}

/// Each two changes of one partition that follow each other.
fn pairs<'a>(chapter: &'a Chapter, names: &Names) -> Vec<[&'a Change; 2]> {
    let mut newest: Vec<Option<&Change>> = vec![None; names.partitions()];
    let pairs = chapter.changes.iter().filter_map(|(_, change)| {
        let before = newest[names.partition_of(&change.user)].replace(change)?;
        Some([before, change])
    });
    pairs.collect()
}

impl Sequence {
    fn chain(&mut self, next: &HashMap<&str, &str>, previous: &HashMap<&str, &str>) {
        let begins = next.keys().filter(|id| !previous.contains_key(*id));
        for begin in begins {
            let mut chain: Vec<Box<str>> = vec![(*begin).into()];
            while let Some(id) = next.get(&*chain[chain.len() - 1]) {
                chain.push((*id).into());
            }
            for (place, id) in chain.iter().enumerate() {
                self.places.insert(id.clone(), (self.chains.len(), place));
            }
            self.chains.push(chain);
        }
    }

    /// An event that a filtered reader should have received between two of its events.
    fn skipped_by(&self, tale: &Tale, names: &Names) -> Option<String> {
        for chapter in &tale.chapters {
            for pair in pairs(chapter, names) {
                // Before a loss, one reader may have received more events than another.
                let Some((chain, from)) = self.places.get(&pair[0].id) else {
                    continue;
                };
                let Some((same, to)) = self.places.get(&pair[1].id) else {
                    continue;
                };
                if chain != same || to <= from {
                    return Some(format!("{}: out of order: {pair:?}", tale.name));
                }
                let between = self.chains[*chain][from + 1..*to].iter();
                let skipped = between
                    .map(|id| &self.changes[id].1)
                    .find(|each| tale.is_about(&each.user));
                if let Some(skipped) = skipped {
                    return Some(format!("{}: missed {skipped:?}", tale.name));
                }
            }
        }
        None
    }
}
