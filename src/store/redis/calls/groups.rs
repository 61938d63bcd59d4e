//! The groups of the Redis store: their members, and the records of the groups of each user.
//!
//! The members of a group are in the store of the group, the record of the groups of a user in the store of the user.
//! A user is recorded before it becomes a member and forgotten after it left. So a record may name too many groups and
//! never too few; it is checked where it is used.

mod message;
mod put;
mod records;
pub(in crate::store::redis) mod seats;

use std::time::Duration;

use redis::{ScriptInvocation, Value};

use crate::model::{GroupId, GroupRefusal, GroupWritten, Partition, Timestamp, UserId};
use crate::store::error::StoreError;
use crate::store::members::Members;
use crate::store::redis::format::replies::{take, unexpected, user_ids};
use crate::store::redis::format::stated::SEPARATOR;
use crate::store::redis::store::RedisStore;

/// How long after a call recorded its users it may add them. It is much shorter than `former_members::SETTLED`, so that
/// no record is deleted between the two.
const ADDED_WITHIN: Duration = Duration::from_secs(5);

/// How often a call is sent if it was too late by the clock of Redis, as after a step of that clock.
const ATTEMPTS: usize = 3;

/// How many users one call asks about at most. Some services refuse commands of more than 4,000 arguments.
const ASKED_AT_ONCE: usize = 1_000;

/// How many groups one call asks about at most, each with three keys. The call takes Redis about a millisecond.
pub(in crate::store::redis) const GROUPS_AT_ONCE: usize = 300;

/// The largest group that is replaced in one step.
const ONE_STEP: usize = 500;

/// The reply of `group_change.lua`.
enum Changed {
    Done(GroupWritten, Vec<UserId>),
    Late,
    Large,
}

impl RedisStore {
    /// Adds and removes stored members of a group in one step. No user may be repeated.
    pub(in crate::store) async fn change_group(
        &self,
        group: &GroupId,
        add: &[UserId],
        remove: &[UserId],
    ) -> Result<GroupWritten, StoreError> {
        let remove = joined(remove);
        let call = self.change_stored(group, add, &remove);
        match self.with_deadline(self.partition_of(group), call).await? {
            Some(written) => Ok(written),
            None => Err(unexpected("a small group is large")),
        }
    }

    /// Makes `members` the stored members of a group. No user may be repeated.
    pub(in crate::store) async fn replace_group(
        &self,
        group: &GroupId,
        members: &[UserId],
    ) -> Result<GroupWritten, StoreError> {
        let call = async {
            if members.len() <= ONE_STEP
                && let Some(written) = self.change_stored(group, members, "*").await?
            {
                return Ok(written);
            }
            self.put_by_steps(group, members).await
        };
        self.with_deadline(self.partition_of(group), call).await
    }

    /// The members of a group, ordered by id.
    pub(in crate::store) async fn group_members(
        &self,
        group: &GroupId,
        which: Members,
    ) -> Result<Vec<UserId>, StoreError> {
        let call = self.read_members(group, which);
        self.with_deadline(self.partition_of(group), call).await
    }

    async fn read_members(
        &self,
        group: &GroupId,
        which: Members,
    ) -> Result<Vec<UserId>, StoreError> {
        let mut read = self.about_group(&self.scripts.group_members, group);
        read.arg(which.as_str());
        let route = self.lanes.to(self.partition_of(group));
        let (stored, seated): (Vec<Value>, Vec<String>) = route.script(&read).await?;
        let mut members = user_ids(stored)?;
        for seat in &seated {
            let user = seat.split_once(SEPARATOR).map_or(&**seat, |(user, _)| user);
            members.push(UserId::new(user).map_err(unexpected)?);
        }
        members.sort_unstable();
        members.dedup();
        Ok(members)
    }

    pub(in crate::store::redis) async fn stored_members(
        &self,
        group: &GroupId,
    ) -> Result<Vec<UserId>, StoreError> {
        let keys = self.layout.of_group(group);
        let mut sunion = redis::cmd("SUNION");
        sunion
            .arg(keys.group_members(group))
            .arg(keys.group_former(group));
        let route = self.lanes.to(keys.partition);
        let members: Vec<Value> = route.query_idempotent(&sunion).await?;
        let mut members = user_ids(members)?;
        members.sort_unstable();
        Ok(members)
    }

    /// Whether each of `users` is a member of a group, in the same order.
    pub(in crate::store) async fn are_members(
        &self,
        group: &GroupId,
        users: &[UserId],
        which: Members,
    ) -> Result<Vec<bool>, StoreError> {
        let call = self.membership(group, users, which.as_str());
        self.with_deadline(self.partition_of(group), call).await
    }

    /// Whether users are stored in a group.
    async fn are_stored(&self, group: &GroupId, users: &[UserId]) -> Result<Vec<bool>, StoreError> {
        self.membership(group, users, "stored").await
    }

    async fn membership(
        &self,
        group: &GroupId,
        users: &[UserId],
        which: &str,
    ) -> Result<Vec<bool>, StoreError> {
        let route = self.lanes.to(self.partition_of(group));
        let mut are_members = Vec::with_capacity(users.len());
        for part in users.chunks(ASKED_AT_ONCE) {
            let mut has = self.about_group(&self.scripts.group_has, group);
            has.arg(which);
            for user in part {
                has.arg(user.as_str());
            }
            let answer: Vec<bool> = route.script(&has).await?;
            if answer.len() != part.len() {
                return Err(unexpected("an incomplete reply"));
            }
            are_members.extend(answer);
        }
        Ok(are_members)
    }

    /// Changes a group in one step; `remove` is a list of ids, or `*`. `None`: the group is too large for `*`.
    async fn change_stored(
        &self,
        group: &GroupId,
        add: &[UserId],
        remove: &str,
    ) -> Result<Option<GroupWritten>, StoreError> {
        let added = joined(add);
        for _ in 0..ATTEMPTS {
            let began = self.now(self.partition_of(group));
            self.record(group, add).await?;
            let not_after = began.plus(ADDED_WITHIN);
            match self.run_change(group, not_after, &added, remove).await {
                Ok(Changed::Late) => self.read_clock(self.partition_of(group)).await?,
                Ok(Changed::Large) => return Ok(None),
                Ok(Changed::Done(written, left)) => {
                    self.forget(group, left, began).await;
                    return Ok(Some(written));
                }
                Err(error) => {
                    // The users are recorded and may not be members.
                    self.former_members.add(group, add.to_vec());
                    return Err(error);
                }
            }
        }
        Err(StoreError::too_slow())
    }

    /// Runs `group_change.lua`. A PUT under way is finished first.
    async fn run_change(
        &self,
        group: &GroupId,
        not_after: Timestamp,
        add: &str,
        remove: &str,
    ) -> Result<Changed, StoreError> {
        let most = self.lifetimes.group_members;
        let mut change = self.about_group(&self.scripts.group_change, group);
        change
            .arg(not_after.as_millis())
            .arg(most)
            .arg(add)
            .arg(remove)
            .arg(ONE_STEP);
        let route = self.lanes.to(self.partition_of(group));
        let (mut values, outcome) = loop {
            let answer: Vec<Value> = route.script(&change).await?;
            let mut values = answer.into_iter();
            let outcome: String = take(&mut values)?;
            if outcome != "busy" {
                break (values, outcome);
            }
            self.make_all_steps(group, None).await?;
        };
        match &*outcome {
            "late" => return Ok(Changed::Late),
            "large" => return Ok(Changed::Large),
            "full" => {
                return Err(StoreError::GroupRefused(GroupRefusal::TooManyMembers {
                    most,
                }));
            }
            "done" => {}
            other => return Err(unexpected(other)),
        }
        let (members, added) = (take(&mut values)?, take(&mut values)?);
        let left = user_ids(values)?;
        let written = GroupWritten {
            members,
            added,
            removed: left.len(),
        };
        Ok(Changed::Done(written, left))
    }

    /// An invocation with the keys and arguments of the preludes `announce.lua` to `connections.lua`, and `groups.lua`.
    fn about_group<'a>(&self, script: &'a redis::Script, group: &GroupId) -> ScriptInvocation<'a> {
        let keys = self.layout.of_group(group);
        let mut invocation = self.announcing(script, keys);
        invocation
            .key(&keys.swept)
            .key(&keys.outages)
            .key(keys.group_members(group))
            .key(keys.group_former(group))
            .key(keys.group_coming(group))
            .key(keys.group_puts(group))
            .key(&keys.puts_under_way)
            .key(keys.group_seats(group))
            .key(keys.group_seated(group))
            .key(keys.group_gone(group))
            .key(&keys.due_groups)
            .key(&keys.absent);
        invocation.arg(self.serving(keys)).arg(group.as_str());
        invocation
    }

    fn partition_of(&self, group: &GroupId) -> Partition {
        self.layout.partitions().of_group(group)
    }
}

/// A list of ids as one text.
fn joined(users: &[UserId]) -> String {
    let ids: Vec<_> = users.iter().map(UserId::as_str).collect();
    ids.join(SEPARATOR)
}
