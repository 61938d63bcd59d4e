//! Which entries of the ring a stream carries.

use std::sync::Arc;

use crate::events::hub::copies::Copies;
use crate::events::hub::ring::Ring;
use crate::events::interest::{GroupInterest, Interest};
use crate::model::{GroupEvent, GroupId, MemberChange, UserId};

/// Which entries a stream carries, from a number on.
#[derive(Debug)]
pub(crate) struct Carried<'a> {
    ring: &'a Ring,
    interest: &'a Interest,
    copies: &'a Copies,
    /// The changes of the groups of the interest from that number on, in order.
    changes: Vec<(u64, &'a Arc<GroupEvent>)>,
}

impl<'a> Carried<'a> {
    /// The entries from `number` on.
    pub(crate) fn from(
        number: u64,
        ring: &'a Ring,
        copies: &'a Copies,
        interest: &'a Interest,
    ) -> Self {
        let changes = match interest {
            Interest::AllUsers | Interest::Users(_) => Vec::new(),
            Interest::Groups(interest) => {
                let changes = ring.group_events(number);
                let changes = changes.filter(|(_, event)| interest.has_group(&event.group));
                changes.collect()
            }
        };
        Self {
            ring,
            interest,
            copies,
            changes,
        }
    }

    /// Whether the stream carries the entry with this number.
    pub(crate) fn includes(&self, number: u64) -> bool {
        let user = self.ring.user(number);
        match self.interest {
            Interest::AllUsers => user.is_some(),
            Interest::Users(users) => user.is_some_and(|user| users.binary_search(user).is_ok()),
            Interest::Groups(interest) => match user {
                Some(user) => self.includes_user(interest, number, user),
                None => {
                    let event = self.ring.group_event(number);
                    event.is_some_and(|event| self.includes_change(interest, number, event))
                }
            },
        }
    }

    fn includes_user(&self, interest: &GroupInterest, number: u64, user: &UserId) -> bool {
        let mut groups = interest.groups.iter();
        let is_member =
            |group| self.is_member(number, group, user) && self.is_own(interest, number, group);
        interest.has_user(user) || groups.any(is_member)
    }

    fn includes_change(&self, interest: &GroupInterest, number: u64, event: &GroupEvent) -> bool {
        let group = &event.group;
        let own = interest.own.as_ref();
        own.is_some_and(|user| event.names(user))
            || interest.has_group(group) && self.is_own(interest, number, group)
    }

    /// Whether the user of the stream was a member of a group as of the entry with this number, if the stream is one of
    /// own groups.
    fn is_own(&self, interest: &GroupInterest, number: u64, group: &GroupId) -> bool {
        let own = interest.own.as_ref();
        own.is_none_or(|user| self.is_member(number, group, user))
    }

    /// Whether a user was a member of a group as of the entry with this number. The copies are as of the end of the
    /// ring; what they were before follows from the changes since.
    fn is_member(&self, number: u64, group: &GroupId, user: &UserId) -> bool {
        let after = self.changes.partition_point(|(each, _)| *each <= number);
        let mut later = self.changes[after..].iter();
        let next = later.find(|(_, event)| event.group == *group && event.names(user));
        match next.map(|(_, event)| &event.change) {
            Some(MemberChange::Joined(_)) => false,
            Some(MemberChange::Left { .. }) => true,
            None => self.copies.contains(group, user),
        }
    }
}
