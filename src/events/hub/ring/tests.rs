use std::collections::HashMap as Map;
use std::time::Duration;

use super::*;
use crate::model::{PresenceEvent, UserChange};
use proptest::collection::vec;
use proptest::prelude::*;

const UNBOUNDED: Bounds = Bounds {
    span: Duration::from_secs(1_000),
    bytes: usize::MAX,
};

fn position(number: usize) -> Position {
    Position {
        millis: number as u64,
        sequence: 0,
    }
}

fn id(user: u8) -> UserId {
    UserId::new(&format!("user-{user}")).expect("an id")
}

/// Returns one entry for each of these users, in order. User 0 stands for an entry of unknown type.
fn entries(partitions: Partitions, users: &[u8]) -> Vec<(Partition, Entry)> {
    let mut newest: Map<Partition, Position> = Map::new();
    let entries = users.iter().enumerate().map(|(number, user)| {
        let (partition, position) = (partitions.of(&id(*user)), position(number + 1));
        let previous = newest.insert(partition, position).unwrap_or_default();
        let entry = match user {
            0 => Entry::Unknown { position, previous },
            _ => Entry::Event(PresenceEvent {
                position,
                previous,
                user: id(*user),
                at: Timestamp::from_millis(position.millis),
                change: UserChange::Online { state: None },
            }),
        };
        (partition, entry)
    });
    entries.collect()
}

fn ring(partitions: Partitions, bounds: Bounds) -> Ring {
    let mut ring = Ring::new(partitions, bounds);
    for partition in partitions.all() {
        ring.know(partition, Epoch(1));
    }
    ring
}

/// Returns the numbers of all entries of `user`, found by the links.
fn linked(ring: &Ring, user: &UserId) -> Vec<u64> {
    let numbers = std::iter::successors(ring.newest_of(user), |number| {
        ring.previous_of_same(*number)
    });
    let mut numbers: Vec<_> = numbers.collect();
    numbers.reverse();
    numbers
}

fn any_partitions() -> impl Strategy<Value = Partitions> {
    prop::sample::select(vec![1, 16]).prop_map(|count| Partitions::new(count).expect("a number"))
}

proptest! {
    #[test]
    fn the_entries_of_a_user_and_of_a_partition_are_found(
        partitions in any_partitions(),
        users in vec(0_u8..10, 1..200),
        bytes in 500_usize..20_000,
    ) {
        let mut ring = ring(partitions, Bounds { bytes, ..UNBOUNDED });
        let entries = entries(partitions, &users);
        for (partition, entry) in &entries {
            ring.push(Kept::of(*partition, entry), None);
        }
        let kept: Vec<_> = (ring.first()..ring.end()).collect();
        let first = users.len() - kept.len();
        for user in 1..10 {
            let expected = kept.iter().filter(|number| users[**number as usize] == user);
            prop_assert_eq!(linked(&ring, &id(user)), expected.copied().collect::<Vec<_>>());
        }
        prop_assert_eq!(kept.first().copied(), Some(first as u64).filter(|_| !kept.is_empty()));
        for partition in partitions.all() {
            let numbers = 0..entries.len();
            let all: Vec<_> = numbers.filter(|number| entries[*number].0 == partition).collect();
            let newest = all.last().map_or(Position::START, |number| position(number + 1));
            prop_assert_eq!(ring.newest(partition), Some((Epoch(1), newest)));
            let gone = all.iter().filter(|number| **number < first).max();
            let floor = gone.map_or(Position::START, |number| position(number + 1));
            for place in 0..=users.len() + 1 {
                let place = position(place);
                let at = |number: &&usize| position(**number + 1);
                let last = all.iter().filter(|number| at(number) <= place && **number >= first).max();
                let next = all.iter().filter(|number| at(number) > place).min();
                let before = last.map_or(floor, |number| position(number + 1));
                let expected = if place < floor {
                    Err(NotInRing::TooOld)
                } else if before == place {
                    Ok((last.map(|last| *last as u64), next.map(|next| *next as u64)))
                } else if before == Position::START {
                    Err(NotInRing::Lost)
                } else {
                    Err(NotInRing::Unknown)
                };
                prop_assert_eq!(ring.around(partition, place), expected);
            }
        }
    }

    #[test]
    fn exactly_the_received_entries_are_known(
        partitions in any_partitions(),
        users in vec(0_u8..10, 1..100),
        bytes in 2_000_usize..20_000,
    ) {
        let mut ring = ring(partitions, Bounds { bytes, ..UNBOUNDED });
        let entries = entries(partitions, &users);
        for (partition, entry) in &entries {
            ring.push(Kept::of(*partition, entry), None);
        }
        for (partition, entry) in &entries[ring.first() as usize..] {
            prop_assert!(ring.has(*partition, entry));
            let (position, previous) = (entry.position(), position(1_000));
            let other = Entry::Unknown { position, previous };
            prop_assert!(!ring.has(*partition, &other));
        }
        for number in ring.first()..=ring.end() {
            let before = &entries[..number as usize];
            for (partition, position) in partitions.all().zip(ring.positions_before(number)) {
                let newest = before.iter().rfind(|(of, _)| *of == partition);
                prop_assert_eq!(position, newest.map_or(Position::START, |(_, entry)| entry.position()));
            }
        }
    }

    #[test]
    fn a_restarted_partition_has_only_its_new_entries(
        partitions in any_partitions(),
        users in vec(1_u8..10, 1..100),
        restarted in 0_usize..16,
        bytes in 2_000_usize..20_000,
    ) {
        let restarted = restarted % partitions.count();
        let restarted = partitions.get(restarted).expect("a partition");
        let mut ring = ring(partitions, Bounds { bytes, ..UNBOUNDED });
        let entries = entries(partitions, &users);
        for (partition, entry) in &entries {
            ring.push(Kept::of(*partition, entry), None);
        }
        let (generation, first, end) = (ring.generation(), ring.first(), ring.end());
        let floor = position(500);
        ring.restart(restarted, floor, ResetReason::DataLost);
        prop_assert_eq!(ring.newest(restarted), None);
        ring.know(restarted, Epoch(2));
        prop_assert_eq!(ring.newest(restarted), Some((Epoch(2), floor)));
        prop_assert_eq!(ring.around(restarted, floor), Ok((None, None)));
        prop_assert_eq!(ring.end(), end);
        for number in first..end {
            let (partition, entry) = &entries[number as usize];
            let event = ring.event(number);
            prop_assert_eq!(event.is_none(), *partition == restarted);
            if let Some((of, event)) = event {
                let user = |entry: &Entry| entry.event().map(|event| event.user.clone());
                prop_assert_eq!((of, user(&event)), (*partition, user(entry)));
            }
        }
        let reason = |watched: PartitionSet| ring.restarted_since(generation, &watched);
        prop_assert_eq!(reason(restarted.into()), Some(ResetReason::DataLost));
        let others = partitions.all().filter(|each| *each != restarted).collect();
        prop_assert_eq!(reason(others), None);
        let next = Entry::Unknown { position: position(501), previous: floor };
        let number = ring.push(Kept::of(restarted, &next), None);
        prop_assert_eq!(ring.around(restarted, position(501)), Ok((Some(number), None)));
    }
}

#[test]
fn entries_beyond_the_bounds_are_evicted_and_their_bytes_are_free_again() {
    let bounds = Bounds {
        span: Duration::from_millis(50),
        bytes: usize::MAX,
    };
    for partitions in [1, 16] {
        let partitions = Partitions::new(partitions).expect("a number of partitions");
        let mut ring = ring(partitions, bounds);
        let users: Vec<_> = (0..1_000).map(|number| 1 + (number % 9) as u8).collect();
        for (partition, entry) in entries(partitions, &users) {
            ring.push(Kept::of(partition, &entry), None);
        }
        assert!((40..=60).contains(&(ring.end() - ring.first())));
        while ring.end() > ring.first() {
            ring.pop();
        }
        assert_eq!((ring.bytes, ring.newest_of.len()), (0, 0));
        let last = partitions.of(&id(*users.last().expect("a user")));
        assert_eq!(ring.around(last, position(1_000)), Ok((None, None)));
        assert_eq!(ring.around(last, position(1)), Err(NotInRing::TooOld));
        assert_eq!(ring.around(last, position(1_001)), Err(NotInRing::Unknown));
    }
}
