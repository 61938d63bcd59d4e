use std::collections::HashSet as Set;
use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::events::hub::kept::{Bounds, Kept};
use crate::model::{
    Entry, Epoch, JoinedUser, LeftReason, MemberChange, Partition, Partitions, Position,
    PresenceEvent, Timestamp, UserChange,
};

const USERS: u8 = 4;
const GROUPS: u8 = 4;

fn user(number: u8) -> UserId {
    UserId::new(&format!("user-{number}")).expect("an id")
}

fn group(number: u8) -> GroupId {
    GroupId::new(&format!("group-{number}")).expect("an id")
}

/// What happens: an event of a user, or the user joins or leaves a group.
#[derive(Clone, Copy, Debug)]
enum Step {
    Event(u8),
    Change(u8, u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..USERS).prop_map(Step::Event),
        (0..USERS, 0..GROUPS).prop_map(|(user, group)| Step::Change(user, group)),
    ]
}

/// The members of all groups, as the user and the group of each membership.
type Members = Set<(u8, u8)>;

/// Returns the entry of a step, after which the members are `members`.
fn entry(number: u64, step: Step, members: &Members) -> Entry {
    let position = |millis| Position {
        millis,
        sequence: 0,
    };
    let (position, previous) = (position(number + 1), position(number));
    let at = Timestamp::from_millis(number + 1);
    match step {
        Step::Event(of) => Entry::Event(PresenceEvent {
            position,
            previous,
            user: user(of),
            at,
            change: UserChange::Online { state: None },
        }),
        Step::Change(of, to) => {
            let joined = JoinedUser {
                user: user(of),
                is_announced: true,
            };
            let change = if members.contains(&(of, to)) {
                MemberChange::Joined(vec![joined])
            } else {
                MemberChange::Left {
                    users: vec![joined.user],
                    reason: LeftReason::Removed,
                }
            };
            Entry::Group(Arc::new(GroupEvent {
                position,
                previous,
                group: group(to),
                at,
                change,
            }))
        }
    }
}

/// Copies of all groups, without members.
fn copies() -> Copies {
    let mut copies = Copies::default();
    for number in 0..GROUPS {
        copies.pin(&group(number));
        let incomplete = copies.incomplete(&group(number)).expect("a new copy");
        assert!(copies.begin_fill(incomplete, &Set::default()));
        copies.fill_some(incomplete, &mut Vec::new());
    }
    copies
}

/// Whether a stream carries the entry of a step, after which the members are `members`.
fn is_carried(
    step: Step,
    members: &Members,
    (groups, users, own): (&Set<u8>, &Set<u8>, Option<u8>),
) -> bool {
    let is_own = |group| own.is_none_or(|own| members.contains(&(own, group)));
    match step {
        Step::Event(user) => {
            let mut groups = groups.iter();
            let is_member = |group: &u8| members.contains(&(user, *group)) && is_own(*group);
            users.contains(&user) || groups.any(is_member)
        }
        Step::Change(user, group) => own == Some(user) || groups.contains(&group) && is_own(group),
    }
}

proptest! {
    #[test]
    fn a_stream_of_groups_carries_what_its_groups_were_at_each_entry(
        steps in vec(any_step(), 1..60),
        groups in btree_set(0..GROUPS, 0..4),
        users in btree_set(0..USERS, 0..2),
        own in proptest::option::of(0..USERS),
        range in (0_u64..60, 0_u64..60),
    ) {
        let bounds = Bounds { span: Duration::from_secs(1_000), bytes: usize::MAX };
        let mut ring = Ring::new(Partitions::ONE, bounds);
        ring.know(Partition::FIRST, Epoch(1));
        let (groups, users) = (Set::from_iter(groups), Set::from_iter(users));
        let (mut copies, mut members) = (copies(), Members::new());
        let numbers = range.0..range.1.min(steps.len() as u64);
        let mut expected = Vec::new();
        for (number, step) in (0..).zip(steps) {
            if let Step::Change(user, group) = step && !members.remove(&(user, group)) {
                members.insert((user, group));
            }
            let entry = entry(number, step, &members);
            if let Entry::Group(event) = &entry {
                copies.apply(event);
            }
            ring.push(Kept::of(Partition::FIRST, &entry), None);
            let is_carried = is_carried(step, &members, (&groups, &users, own));
            if numbers.contains(&number) && is_carried {
                expected.push(number);
            }
        }
        let mut ids: (Vec<_>, Vec<_>) = (
            groups.into_iter().map(group).collect(),
            users.into_iter().map(user).collect(),
        );
        ids.0.sort_unstable();
        ids.1.sort_unstable();
        let interest = Interest::Groups(Arc::new(GroupInterest {
            groups: ids.0.into(),
            users: ids.1.into(),
            own: own.map(user),
        }));
        let candidates = Candidates::read(numbers, &ring, &copies, &interest);
        prop_assert_eq!(candidates.carried(), expected);
    }
}
