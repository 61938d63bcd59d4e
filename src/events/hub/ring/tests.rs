use super::*;
use crate::model::Position;
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

/// Returns the entry with this number, of one of ten users. User 0 stands for an entry of
/// unknown type.
fn entry(number: usize, user: u8) -> Entry {
    let (position, previous) = (position(number + 1), position(number));
    if user == 0 {
        return Entry::Unknown { position, previous };
    }
    Entry::Event(PresenceEvent {
        position,
        previous,
        user: UserId::new(&format!("user-{user}")).expect("an id"),
        at: Timestamp::from_millis(position.millis),
        transition: Transition::Online,
    })
}

/// Returns the numbers of all entries of `user`, found by the links.
fn linked(ring: &Ring, user: &UserId) -> Vec<u64> {
    let numbers = std::iter::successors(ring.newest_of(user), |number| {
        ring.previous_of_user(*number)
    });
    let mut numbers: Vec<_> = numbers.collect();
    numbers.reverse();
    numbers
}

proptest! {
    #[test]
    fn the_links_of_a_user_lead_to_all_its_entries_in_the_ring(
        users in vec(0_u8..10, 1..200),
        filled in 0_usize..100,
        bytes in 500_usize..20_000,
    ) {
        let bounds = Bounds { bytes, ..UNBOUNDED };
        let entries: Vec<_> = users.iter().enumerate().map(|(number, user)| entry(number, *user)).collect();
        let (old, new) = entries.split_at(filled.min(entries.len()));
        let mut ring = Ring::after(position(old.len()), bounds);
        for entry in old.iter().rev() {
            ring.prepend(entry);
        }
        ring.link();
        for entry in new {
            ring.push(entry, None);
        }
        let kept: Vec<_> = (ring.first()..ring.end()).collect();
        let first = users.len() - kept.len();
        for user in 1..10 {
            let id = UserId::new(&format!("user-{user}")).expect("an id");
            let expected = kept.iter().filter(|number| users[first + (**number - kept[0]) as usize] == user);
            prop_assert_eq!(linked(&ring, &id), expected.copied().collect::<Vec<_>>());
        }
        prop_assert_eq!(ring.newest(), position(users.len()));
        for (number, known) in entries.iter().enumerate().skip(first) {
            prop_assert!(ring.has(known));
            let (position, previous) = (known.position(), position(number + 1_000));
            let other = Entry::Unknown { position, previous };
            prop_assert!(!ring.has(&other));
        }
        for place in 0..=users.len() {
            let found = ring.number_after(position(place));
            let expected = place.checked_sub(first).map(|after| ring.first() + after as u64);
            prop_assert_eq!(found, expected.ok_or(NotInRing::TooOld));
        }
    }
}

#[test]
fn entries_beyond_the_bounds_are_evicted_and_their_bytes_are_free_again() {
    let bounds = Bounds {
        span: Duration::from_millis(50),
        bytes: usize::MAX,
    };
    let mut ring = Ring::after(position(0), bounds);
    for number in 0..1_000 {
        ring.push(&entry(number, 1 + (number % 9) as u8), None);
    }
    assert!((40..=60).contains(&(ring.end() - ring.first())));
    while ring.end() > ring.first() {
        ring.pop();
    }
    assert_eq!((ring.bytes, ring.newest_of.len()), (0, 0));
    assert_eq!(ring.number_after(position(1_000)), Ok(1_000));
    assert_eq!(ring.number_after(position(999)), Err(NotInRing::TooOld));
    assert_eq!(ring.number_after(position(1_001)), Err(NotInRing::Unknown));
}
