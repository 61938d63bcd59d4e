//! The steps of a history that write and read groups.

use std::collections::BTreeSet;

use presence::model::{GroupId, GroupRefusal, UserId};
use presence::store::{Members, Store, StoreError};

use super::model::Bracket;
use super::{GROUPS, Run};

/// The other members of a large group, which is replaced in several steps.
const CROWD: usize = 600;

/// The limits of the members of a group: for half of the histories so low that groups are full.
const MOST_MEMBERS: [usize; 2] = [2, CROWD + 1];

/// The most members of a group in the history `number`.
pub(super) fn most_members(number: usize) -> usize {
    MOST_MEMBERS[number % MOST_MEMBERS.len()]
}

/// The elements that the bits of a number select.
pub(super) fn selected<T: Clone>(all: &[T], bits: usize) -> Vec<T> {
    let places = (0..all.len()).filter(|place| bits >> place & 1 == 1);
    places.map(|place| all[place].clone()).collect()
}

pub(super) fn group_id(group: usize) -> GroupId {
    GroupId::new(GROUPS[group]).expect("a good id")
}

impl Run {
    /// Replaces the stored members of a group.
    pub(super) async fn replace(&mut self, store: &Store, group: usize, members: usize) {
        let (group, members) = (group_id(group), selected(&self.users, members));
        let written = store.replace_group(&group, &members).await;
        let members = members.into_iter().collect();
        self.model
            .groups
            .written(&group, members, refused_or_not(written));
    }

    /// Replaces the stored members of a group with many, half of which may be members already.
    pub(super) async fn replace_with_many(&mut self, store: &Store, group: usize, members: usize) {
        if self.most_members < CROWD {
            return;
        }
        let group = group_id(group);
        let first = CROWD / 2 * (members % 2);
        let mut members = selected(&self.users, members);
        // The limit leaves one place.
        members.truncate(1);
        let crowd = (first..first + CROWD).map(|user| UserId::new(&format!("extra-{user}")));
        members.extend(crowd.map(|user| user.expect("a good id")));
        let written = store.replace_group(&group, &members).await;
        let members = members.into_iter().collect();
        self.model
            .groups
            .written(&group, members, refused_or_not(written));
    }

    /// Adds stored members to a group and removes others. A user is not in both lists.
    pub(super) async fn change(
        &mut self,
        store: &Store,
        group: usize,
        (add, remove): (usize, usize),
    ) {
        let group = group_id(group);
        let add = selected(&self.users, add);
        let mut remove = selected(&self.users, remove);
        remove.retain(|user| !add.contains(user));
        let written = store.change_group(&group, &add, &remove).await;
        let mut members: BTreeSet<UserId> = self.model.groups.stored(&group);
        members.retain(|user| !remove.contains(user));
        members.extend(add);
        self.model
            .groups
            .written(&group, members, refused_or_not(written));
    }

    /// Reads the members of a group and the groups of a user.
    pub(super) async fn look_at_group(&mut self, store: &Store, group: usize, user: usize) {
        let (group, user) = (group_id(group), self.users[user].clone());
        let bracket = Bracket::open(self.ahead_ms);
        let now = store.group_members(&group, Members::Now).await;
        let now = now.expect("an answer");
        let announced = store.group_members(&group, Members::Announced).await;
        let at = bracket.close(self.ahead_ms);
        let announced = announced.expect("an answer");
        self.model.groups.looked(at, &group, &now, &announced);
        let bracket = Bracket::open(self.ahead_ms);
        let is_member = store.is_member(&group, &user).await.expect("an answer");
        let groups = store.groups_of(&user).await.expect("an answer");
        let at = bracket.close(self.ahead_ms);
        let is_member = (&group, is_member);
        self.model
            .groups
            .looked_at_user(at, &user, is_member, &groups);
    }
}

fn refused_or_not<T>(written: Result<T, StoreError>) -> Result<T, GroupRefusal> {
    match written {
        Ok(written) => Ok(written),
        Err(StoreError::GroupRefused(refusal)) => Err(refusal),
        Err(error) => panic!("the store answers: {error}"),
    }
}
