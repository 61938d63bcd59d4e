//! The records of the groups in which each user is stored, and the groups of a user.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use redis::{Cmd, FromRedisValue, Pipeline, Script};

use super::GROUPS_AT_ONCE;
use crate::model::{GroupId, GroupRefusal, Partition, Timestamp, UserId};
use crate::store::error::StoreError;
use crate::store::policy::USER_GROUPS;
use crate::store::redis::format::replies::unexpected;
use crate::store::redis::former_members::SETTLED;
use crate::store::redis::routing::route::Answer;
use crate::store::redis::store::RedisStore;

/// How many users one script call records or forgets.
const PART: usize = 250;

impl RedisStore {
    /// Records that users will become members of a group. Fails if a user is stored in the maximum number of groups.
    pub(super) async fn record(&self, group: &GroupId, users: &[UserId]) -> Result<(), StoreError> {
        let recorded = self.record_all(group, users).await;
        if recorded.is_err() {
            // The others are recorded and may not be members.
            self.former_members.add(group, users.to_vec());
        }
        recorded
    }

    async fn record_all(&self, group: &GroupId, users: &[UserId]) -> Result<(), StoreError> {
        let full = self.record_unless_full(group, users).await?;
        if full.is_empty() {
            return Ok(());
        }
        for user in &full {
            self.check_record(user).await?;
        }
        match self.record_unless_full(group, &full).await?.pop() {
            None => Ok(()),
            Some(user) => Err(StoreError::GroupRefused(GroupRefusal::TooManyGroups {
                user,
                most: USER_GROUPS,
            })),
        }
    }

    /// Forgets users that were not members of a group at some time after `at`. Younger records are checked later.
    pub(super) async fn forget(&self, group: &GroupId, users: Vec<UserId>, at: Timestamp) {
        let young = self.forget_settled(group, &users, at).await;
        // A failure leaves records of too many groups, which is allowed.
        self.former_members.add(group, young.unwrap_or(users));
    }

    /// Forgets users that are not members any more and whose records were too young before.
    pub(super) async fn forget_former(&self) -> Result<(), StoreError> {
        while let Some((group, users)) = self.former_members.take_settled() {
            let at = self.now(self.partition_of(&group));
            let are_members = self.are_stored(&group, &users).await?;
            let users = users.into_iter().zip(are_members);
            let others = users.filter_map(|(user, is_member)| (!is_member).then_some(user));
            self.forget(&group, others.collect(), at).await;
        }
        Ok(())
    }

    /// The groups of which a user is an announced member. Each partition with such groups is asked once, because a user
    /// may have the maximum number of them, and each call that waits counts.
    pub(in crate::store) async fn groups_of(
        &self,
        user: &UserId,
    ) -> Result<Vec<GroupId>, StoreError> {
        let keys = self.layout.of(user);
        let possible = self.with_deadline(keys.partition, self.possible_groups(user));
        let mut by_partition: BTreeMap<Partition, Vec<GroupId>> = BTreeMap::new();
        for group in possible.await? {
            let partition = self.partition_of(&group);
            by_partition.entry(partition).or_default().push(group);
        }
        let asked = by_partition.into_iter().map(|(partition, groups)| {
            let call = self.memberships_in(partition, groups, user);
            self.with_deadline(partition, call)
        });
        Ok(try_join_all(asked).await?.concat())
    }

    /// Those of `groups`, all in `partition`, of which a user is an announced member.
    async fn memberships_in(
        &self,
        partition: Partition,
        groups: Vec<GroupId>,
        user: &UserId,
    ) -> Result<Vec<GroupId>, StoreError> {
        let mut calls = Pipeline::new();
        for part in groups.chunks(GROUPS_AT_ONCE) {
            calls.add_command(self.asks_for_memberships(partition, part, user));
        }
        let script = &self.scripts.member_of;
        let answers = self.indices(script, partition, &calls).await?;
        let mut found = Vec::new();
        for (part, indices) in groups.chunks(GROUPS_AT_ONCE).zip(answers) {
            found.extend(selected(part, indices)?);
        }
        Ok(found)
    }

    /// A call of `member_of.lua` about some groups of a partition.
    pub(in crate::store::redis) fn asks_for_memberships(
        &self,
        partition: Partition,
        groups: &[GroupId],
        user: &UserId,
    ) -> Cmd {
        let keys = self.layout.keys(partition);
        let mut call = Cmd::new();
        call.arg("EVALSHA").arg(self.scripts.member_of.get_hash());
        call.arg(3 * groups.len() + 1);
        for group in groups {
            call.arg(keys.group_members(group))
                .arg(keys.group_former(group))
                .arg(keys.group_seated(group));
        }
        call.arg(&keys.absent).arg(user.as_str());
        call
    }

    /// The groups in which a user may be stored, and those that its connections state.
    async fn possible_groups(&self, user: &UserId) -> Result<BTreeSet<GroupId>, StoreError> {
        let keys = self.layout.of(user);
        let mut read = self.about_connections(&self.scripts.stated_groups, keys);
        read.key(keys.user(user))
            .key(keys.connections(user))
            .key(keys.user_groups(user))
            .key(&keys.absent);
        read.arg(user.as_str());
        let route = self.lanes.to(keys.partition);
        let groups: Vec<String> = route.script(&read).await?;
        let groups = groups.iter().map(|group| GroupId::new(group));
        groups.collect::<Result<_, _>>().map_err(unexpected)
    }

    /// The groups in which a user is stored according to its record.
    async fn recorded(&self, user: &UserId) -> Result<Vec<GroupId>, StoreError> {
        let keys = self.layout.of(user);
        let mut zrange = redis::cmd("ZRANGE");
        zrange.arg(keys.user_groups(user)).arg(0).arg(-1);
        let route = self.lanes.to(keys.partition);
        let groups: Vec<String> = route.query_idempotent(&zrange).await?;
        let groups = groups.iter().map(|group| GroupId::new(group));
        groups.collect::<Result<_, _>>().map_err(unexpected)
    }

    /// Forgets the groups in which a user is not stored. The groups are asked at the same time, because a user may have
    /// the maximum number of them.
    async fn check_record(&self, user: &UserId) -> Result<(), StoreError> {
        let groups = self.recorded(user).await?;
        let checks = groups.iter().map(|group| async move {
            let user = std::slice::from_ref(user);
            let at = self.now(self.partition_of(group));
            if self.are_stored(group, user).await? == [false] {
                self.forget_settled(group, user, at).await?;
            }
            Ok::<_, StoreError>(())
        });
        try_join_all(checks).await.map(drop)
    }

    /// Returns the users that were not recorded.
    async fn record_unless_full(
        &self,
        group: &GroupId,
        users: &[UserId],
    ) -> Result<Vec<UserId>, StoreError> {
        let argument = USER_GROUPS as u64;
        self.for_records(&self.scripts.group_record, group, users, argument)
            .await
    }

    /// Returns the users whose records were too young at `at`.
    async fn forget_settled(
        &self,
        group: &GroupId,
        users: &[UserId],
        at: Timestamp,
    ) -> Result<Vec<UserId>, StoreError> {
        let before = at.minus(SETTLED).as_millis();
        self.for_records(&self.scripts.group_forget, group, users, before)
            .await
    }

    /// Calls a script for the records of users, in parts. Returns the users whose indices it replies with.
    async fn for_records(
        &self,
        script: &Script,
        group: &GroupId,
        users: &[UserId],
        argument: u64,
    ) -> Result<Vec<UserId>, StoreError> {
        let mut by_partition: BTreeMap<Partition, Vec<&UserId>> = BTreeMap::new();
        for user in users {
            let partition = self.layout.partitions().of(user);
            by_partition.entry(partition).or_default().push(user);
        }
        let calls = by_partition.into_iter().map(|(partition, users)| {
            self.for_records_in(script, group, partition, users, argument)
        });
        Ok(try_join_all(calls).await?.concat())
    }

    async fn for_records_in(
        &self,
        script: &Script,
        group: &GroupId,
        partition: Partition,
        users: Vec<&UserId>,
        argument: u64,
    ) -> Result<Vec<UserId>, StoreError> {
        let keys = self.layout.keys(partition);
        let mut calls = Pipeline::new();
        for part in users.chunks(PART) {
            let mut call = Cmd::new();
            call.arg("EVALSHA").arg(script.get_hash());
            call.arg(part.len() + 1);
            for user in part {
                call.arg(keys.user_groups(user));
            }
            call.arg(&keys.absent).arg(group.as_str()).arg(argument);
            calls.add_command(call);
        }
        let answers = self.indices(script, partition, &calls).await?;
        let mut found = Vec::new();
        for (part, indices) in users.chunks(PART).zip(answers) {
            found.extend(selected(part, indices)?.into_iter().cloned());
        }
        Ok(found)
    }

    /// Sends idempotent calls of a script in one round trip. Returns the indices with which it replies to each.
    async fn indices(
        &self,
        script: &Script,
        partition: Partition,
        calls: &Pipeline,
    ) -> Result<Vec<Vec<usize>>, StoreError> {
        let route = self.lanes.to(partition);
        // While the slot moves, the calls wait: a script does not run on a part of its keys.
        let together = |_| Pipeline::new();
        let answers = route.scripts_idempotent(calls, script, together).await?;
        let mut indices = Vec::new();
        for answer in answers {
            let Answer::Whole(answer) = answer else {
                return Err(unexpected("answers to parts of a command"));
            };
            indices.push(Vec::from_redis_value(answer?).map_err(unexpected)?);
        }
        Ok(indices)
    }
}

/// The elements at these indices, which count from 1.
fn selected<T: Clone>(elements: &[T], indices: Vec<usize>) -> Result<Vec<T>, StoreError> {
    let at = |index: usize| elements.get(index.checked_sub(1)?).cloned();
    let selected: Option<Vec<T>> = indices.into_iter().map(at).collect();
    selected.ok_or_else(|| unexpected("an index out of range"))
}
