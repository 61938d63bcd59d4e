//! The stored members of the groups of the embedded store.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{GroupId, GroupRefusal, UserId};
use crate::store::policy::USER_GROUPS;

/// The stored members of all groups. A group without members is not kept.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: HashMap<GroupId, BTreeSet<UserId>>,
    /// The groups of each user: the inverse of `members`.
    of_user: BTreeMap<UserId, BTreeSet<GroupId>>,
}

/// The users that a write added and removed, each once and in the order of the request.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) joined: Vec<UserId>,
    pub(super) left: Vec<UserId>,
}

impl Groups {
    /// The members of a group.
    pub(super) fn members(&self, group: &GroupId) -> impl Iterator<Item = &UserId> {
        self.members.get(group).into_iter().flatten()
    }

    /// The number of members of a group.
    pub(super) fn len(&self, group: &GroupId) -> usize {
        self.members.get(group).map_or(0, BTreeSet::len)
    }

    /// Whether a user is a member of a group.
    pub(super) fn contains(&self, group: &GroupId, user: &UserId) -> bool {
        let members = self.members.get(group);
        members.is_some_and(|members| members.contains(user))
    }

    /// The groups of a user.
    pub(super) fn of(&self, user: &UserId) -> Vec<GroupId> {
        let groups = self.of_user.get(user).into_iter().flatten();
        groups.cloned().collect()
    }

    /// Makes `members` the members of a group.
    pub(super) fn replace(
        &mut self,
        group: &GroupId,
        members: &[UserId],
        most: usize,
    ) -> Result<Written, GroupRefusal> {
        let wanted: BTreeSet<_> = members.iter().collect();
        let current = self.members(group);
        let left = current.filter(|user| !wanted.contains(user)).cloned();
        let left: Vec<_> = left.collect();
        self.change(group, members, &left, most)
    }

    /// Removes and adds members. A refused change changes nothing.
    pub(super) fn change(
        &mut self,
        group: &GroupId,
        add: &[UserId],
        remove: &[UserId],
        most: usize,
    ) -> Result<Written, GroupRefusal> {
        let joined = distinct(add, |user| !self.contains(group, user));
        let left = distinct(remove, |user| self.contains(group, user));
        if self.len(group) + joined.len() > most + left.len() && !joined.is_empty() {
            return Err(GroupRefusal::TooManyMembers { most });
        }
        let groups_of = |user: &UserId| self.of_user.get(user).map_or(0, BTreeSet::len);
        if let Some(user) = joined.iter().find(|user| groups_of(user) >= USER_GROUPS) {
            return Err(GroupRefusal::TooManyGroups {
                user: user.clone(),
                most: USER_GROUPS,
            });
        }
        for user in &left {
            self.remove(group, user);
        }
        for user in &joined {
            let members = self.members.entry(group.clone()).or_default();
            members.insert(user.clone());
            let groups = self.of_user.entry(user.clone()).or_default();
            groups.insert(group.clone());
        }
        Ok(Written { joined, left })
    }

    fn remove(&mut self, group: &GroupId, user: &UserId) {
        if let Some(members) = self.members.get_mut(group) {
            members.remove(user);
            if members.is_empty() {
                self.members.remove(group);
            }
        }
        if let Some(groups) = self.of_user.get_mut(user) {
            groups.remove(group);
            if groups.is_empty() {
                self.of_user.remove(user);
            }
        }
    }
}

/// The wanted users, each once.
fn distinct(users: &[UserId], is_wanted: impl Fn(&UserId) -> bool) -> Vec<UserId> {
    let mut seen = BTreeSet::new();
    let wanted = users.iter().filter(|user| is_wanted(user));
    wanted.filter(|user| seen.insert(*user)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn users(numbers: &[u8]) -> Vec<UserId> {
        let ids = numbers
            .iter()
            .map(|number| UserId::new(&number.to_string()));
        ids.map(|id| id.expect("an id")).collect()
    }

    proptest! {
        #[test]
        fn every_write_says_what_it_changed(
            writes in vec((any::<bool>(), vec(0_u8..6, 0..5), vec(0_u8..6, 0..4)), 1..20),
        ) {
            let group = GroupId::new("team").expect("an id");
            let mut groups = Groups::default();
            let mut expected = BTreeSet::new();
            for (replaces, add, remove) in &writes {
                let (add, remove) = (users(add), users(remove));
                let remove: Vec<_> = remove.into_iter().filter(|user| !add.contains(user)).collect();
                let (after, written): (BTreeSet<_>, _) = if *replaces {
                    (add.iter().cloned().collect(), groups.replace(&group, &add, 4))
                } else {
                    let kept = expected.iter().filter(|user| !remove.contains(user));
                    let after = kept.chain(&add).cloned().collect();
                    (after, groups.change(&group, &add, &remove, 4))
                };
                let joined: BTreeSet<_> = after.difference(&expected).cloned().collect();
                if after.len() > 4 {
                    prop_assert_eq!(written.err(), Some(GroupRefusal::TooManyMembers { most: 4 }));
                    continue;
                }
                let written = written.expect("a small group");
                let left: BTreeSet<_> = expected.difference(&after).cloned().collect();
                prop_assert_eq!(written.joined.len(), joined.len());
                prop_assert_eq!(written.left.len(), left.len());
                prop_assert_eq!(written.joined.into_iter().collect::<BTreeSet<_>>(), joined);
                prop_assert_eq!(written.left.into_iter().collect::<BTreeSet<_>>(), left);
                prop_assert!(groups.members(&group).eq(&after));
                prop_assert!(groups.of_user.keys().eq(&after));
                expected = after;
            }
        }
    }

    #[test]
    fn a_user_is_stored_in_a_limited_number_of_groups() {
        let mut groups = Groups::default();
        let alice = users(&[1]);
        let group = |number: usize| GroupId::new(&number.to_string()).expect("an id");
        for number in 0..USER_GROUPS {
            groups
                .replace(&group(number), &alice, 1)
                .expect("few groups");
        }
        let refused = groups.change(&group(USER_GROUPS), &alice, &[], 1);
        let most = USER_GROUPS;
        let user = alice[0].clone();
        assert_eq!(
            refused.err(),
            Some(GroupRefusal::TooManyGroups { user, most })
        );
        groups.replace(&group(7), &[], 1).expect("nobody joins");
        groups
            .change(&group(USER_GROUPS), &alice, &[], 1)
            .expect("one group is free");
    }
}
