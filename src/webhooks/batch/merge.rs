//! The order of the entries of a batch.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Entry, Partition};

/// Puts the entries of several partitions into the order of their times. The entries of a partition keep their order.
/// Of the same millisecond, events of users come before events of groups: a user is online before it joins a group.
pub(super) fn merged(entries: Vec<(Partition, Entry)>) -> Vec<(Partition, Entry)> {
    let count = entries.len();
    let mut parts: BTreeMap<Partition, VecDeque<Entry>> = BTreeMap::new();
    for (partition, entry) in entries {
        parts.entry(partition).or_default().push_back(entry);
    }
    let mut merged = Vec::with_capacity(count);
    loop {
        let firsts = parts
            .iter()
            .filter_map(|(each, part)| part.front().map(|first| (*each, first)));
        let order = |(partition, first): &(Partition, &Entry)| {
            let is_of_group = matches!(first, Entry::Group(_));
            (first.position().millis, is_of_group, *partition)
        };
        let Some((partition, _)) = firsts.min_by_key(order) else {
            return merged;
        };
        let first = parts.get_mut(&partition).and_then(VecDeque::pop_front);
        merged.extend(first.map(|first| (partition, first)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        GroupEvent, GroupId, LeftReason, MemberChange, Partitions, Position, PresenceEvent,
        Timestamp, UserChange, UserId,
    };

    fn position(millis: u64, sequence: u64) -> Position {
        Position { millis, sequence }
    }

    fn of_user(millis: u64, sequence: u64) -> Entry {
        Entry::Event(PresenceEvent {
            position: position(millis, sequence),
            previous: Position::START,
            user: UserId::new("alice").expect("an id"),
            at: Timestamp::from_millis(millis),
            change: UserChange::Online { state: None },
        })
    }

    fn of_group(millis: u64, sequence: u64) -> Entry {
        let change = MemberChange::Left {
            users: vec![UserId::new("alice").expect("an id")],
            reason: LeftReason::Removed,
        };
        Entry::Group(std::sync::Arc::new(GroupEvent {
            position: position(millis, sequence),
            previous: Position::START,
            group: GroupId::new("team").expect("an id"),
            at: Timestamp::from_millis(millis),
            change,
        }))
    }

    #[test]
    fn events_of_users_come_first_and_each_partition_keeps_its_order() {
        let partitions = Partitions::new(16).expect("a number");
        let part = |index| partitions.get(index).expect("a partition");
        let entries = vec![
            (part(0), of_group(5, 0)),
            (part(0), of_user(5, 1)),
            (part(1), of_user(5, 0)),
            (part(1), of_user(4, 7)),
        ];
        let mut sorted = entries.clone();
        sorted.swap(2, 3);
        let merged = merged(sorted);
        let places: Vec<_> = merged
            .iter()
            .map(|(partition, entry)| (partition.index(), entry.position()))
            .collect();
        let expected = [
            (1, position(4, 7)),
            (1, position(5, 0)),
            (0, position(5, 0)),
            (0, position(5, 1)),
        ];
        assert_eq!(places, expected);
    }
}
