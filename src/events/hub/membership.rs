//! Which entries of the ring a stream carries.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::events::hub::copies::Copies;
use crate::events::hub::ring::Ring;
use crate::events::interest::{GroupInterest, Interest};
use crate::model::{GroupEvent, GroupId, UserId};

/// Some entries of the ring, and what decides which of them a stream carries. They are read while the hub is locked.
/// The decision about groups takes longer, and needs no lock.
#[derive(Debug)]
pub(crate) enum Candidates<'a> {
    /// The numbers of the entries that the stream carries.
    Carried(Vec<u64>),
    /// Entries that a stream of groups may carry.
    OfGroups(GroupCandidates<'a>),
}

/// Entries that a stream of groups may carry.
#[derive(Debug)]
pub(crate) struct GroupCandidates<'a> {
    interest: &'a GroupInterest,
    entries: Vec<(u64, Change)>,
    /// The changes of the groups of the interest from the first entry on, in any order.
    later: Vec<(u64, Arc<GroupEvent>)>,
    /// The groups of the interest that each user of the entries is in, as of the end of the ring.
    groups_of: HashMap<UserId, Vec<GroupId>, RandomState>,
}

/// What an entry tells.
#[derive(Debug)]
enum Change {
    User(UserId),
    Group(Arc<GroupEvent>),
}

impl<'a> Candidates<'a> {
    /// Reads the entries with these numbers, which are in order.
    pub(crate) fn read(
        numbers: impl Iterator<Item = u64>,
        ring: &Ring,
        copies: &Copies,
        interest: &'a Interest,
    ) -> Self {
        match interest {
            Interest::AllUsers => {
                let carried = numbers.filter(|number| ring.user(*number).is_some());
                Self::Carried(carried.collect())
            }
            Interest::Users(users) => {
                let is_listed = |user| users.binary_search(user).is_ok();
                let carried = numbers.filter(|number| ring.user(*number).is_some_and(is_listed));
                Self::Carried(carried.collect())
            }
            Interest::Groups(interest) => {
                Self::OfGroups(GroupCandidates::read(numbers, ring, copies, interest))
            }
        }
    }

    /// Returns the numbers of the entries that the stream carries, in order.
    pub(crate) fn carried(self) -> Vec<u64> {
        match self {
            Self::Carried(numbers) => numbers,
            Self::OfGroups(candidates) => candidates.carried(),
        }
    }
}

impl<'a> GroupCandidates<'a> {
    fn read(
        numbers: impl Iterator<Item = u64>,
        ring: &Ring,
        copies: &Copies,
        interest: &'a GroupInterest,
    ) -> Self {
        let changes = numbers.filter_map(|number| {
            let change = match (ring.user(number), ring.group_event(number)) {
                (Some(user), _) => Change::User(user.clone()),
                (None, Some(event)) => Change::Group(Arc::clone(event)),
                (None, None) => return None,
            };
            Some((number, change))
        });
        let entries: Vec<_> = changes.collect();
        let Some((first, _)) = entries.first() else {
            return Self {
                interest,
                entries,
                later: Vec::new(),
                groups_of: HashMap::default(),
            };
        };
        let groups = interest.groups.iter();
        let later = groups.flat_map(|group| ring.events_of_group(group, *first));
        let later = later.map(|(number, event)| (number, Arc::clone(event)));
        let mut groups_of = HashMap::default();
        let users = entries.iter().filter_map(|(_, change)| match change {
            Change::User(user) => Some(user),
            Change::Group(_) => None,
        });
        for user in users.chain(&interest.own) {
            if !groups_of.contains_key(user) {
                let groups = copies.groups_of(user, &interest.groups);
                groups_of.insert(user.clone(), groups);
            }
        }
        Self {
            interest,
            later: later.collect(),
            entries,
            groups_of,
        }
    }

    fn carried(self) -> Vec<u64> {
        let memberships = Memberships::new(&self.later, &self.groups_of);
        let entries = self.entries.iter();
        let carried = entries.filter(|(number, change)| match change {
            Change::User(user) => includes_user(self.interest, &memberships, *number, user),
            Change::Group(event) => includes_change(self.interest, &memberships, *number, event),
        });
        carried.map(|(number, _)| *number).collect()
    }
}

fn includes_user(
    interest: &GroupInterest,
    memberships: &Memberships<'_>,
    number: u64,
    user: &UserId,
) -> bool {
    let mut groups = memberships.possible_groups(user, number);
    let is_member = |group| {
        memberships.is_member(user, group, number) && is_own(interest, memberships, number, group)
    };
    interest.has_user(user) || groups.any(is_member)
}

fn includes_change(
    interest: &GroupInterest,
    memberships: &Memberships<'_>,
    number: u64,
    event: &GroupEvent,
) -> bool {
    let group = &event.group;
    let own = interest.own.as_ref();
    own.is_some_and(|user| event.names(user))
        || interest.has_group(group) && is_own(interest, memberships, number, group)
}

/// Whether the user of the stream was a member of a group as of the entry with this number, if the stream is one of
/// own groups.
fn is_own(
    interest: &GroupInterest,
    memberships: &Memberships<'_>,
    number: u64,
    group: &GroupId,
) -> bool {
    let own = interest.own.as_ref();
    own.is_none_or(|user| memberships.is_member(user, group, number))
}

/// The groups of some users as of each entry of a range. They are known as of the end of the ring; what they were before
/// follows from the changes since.
struct Memberships<'a> {
    groups_of: &'a HashMap<UserId, Vec<GroupId>, RandomState>,
    /// The changes of each user, in order: the number of the entry, the group, and whether the user joined.
    changes: HashMap<&'a UserId, Vec<(u64, &'a GroupId, bool)>, RandomState>,
}

impl<'a> Memberships<'a> {
    fn new(
        later: &'a [(u64, Arc<GroupEvent>)],
        groups_of: &'a HashMap<UserId, Vec<GroupId>, RandomState>,
    ) -> Self {
        let mut changes: HashMap<_, Vec<_>, _> = HashMap::default();
        for (number, event) in later {
            let users = event.users().filter(|user| groups_of.contains_key(*user));
            for user in users {
                let change = (*number, &event.group, event.has_joined());
                changes.entry(user).or_default().push(change);
            }
        }
        for of_user in changes.values_mut() {
            of_user.sort_unstable_by_key(|(number, ..)| *number);
        }
        Self { groups_of, changes }
    }

    /// The changes of a user after the entry with this number.
    fn after(&self, user: &UserId, number: u64) -> &[(u64, &'a GroupId, bool)] {
        let changes = self.changes.get(user).map_or(&[][..], Vec::as_slice);
        let first = changes.partition_point(|(each, ..)| *each <= number);
        &changes[first..]
    }

    /// The groups of which a user may have been a member as of the entry with this number.
    fn possible_groups(&self, user: &UserId, number: u64) -> impl Iterator<Item = &'a GroupId> {
        let now = self.groups_of.get(user).into_iter().flatten();
        let changed = self.after(user, number).iter().map(|(_, group, _)| *group);
        now.chain(changed.collect::<Vec<_>>())
    }

    /// Whether a user was a member of a group as of the entry with this number.
    fn is_member(&self, user: &UserId, group: &GroupId, number: u64) -> bool {
        let mut changes = self.after(user, number).iter();
        match changes.find(|(_, changed, _)| *changed == group) {
            Some((_, _, has_joined)) => !has_joined,
            None => {
                let groups = self.groups_of.get(user);
                groups.is_some_and(|groups| groups.contains(group))
            }
        }
    }
}

#[cfg(test)]
mod tests;
