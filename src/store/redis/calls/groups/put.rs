//! Replaces large groups step by step.
//!
//! First the list arrives in a key of its own. When it is complete, the PUT is decided: from then on any instance can
//! finish it. Each step changes some members and appends their events atomically. The sweep finishes the PUTs of
//! instances that died.

use std::time::Duration;

use futures_util::future::{join_all, try_join};
use redis::{Pipeline, Value};

use super::{ADDED_WITHIN, ATTEMPTS};
use crate::model::{GroupId, GroupWritten, Partition, UserId};
use crate::store::error::StoreError;
use crate::store::redis::format::keys::Keys;
use crate::store::redis::format::replies::{take, unexpected, user_ids};
use crate::store::redis::store::RedisStore;

/// How many ids one command appends to a list.
const PART: usize = 1_000;

/// How many members one step changes, which takes Redis less than 3 ms.
const STEP: usize = 500;

/// How long a list is kept until it is complete.
const LIST_KEPT: Duration = Duration::from_secs(30);

/// How long a PUT may make no step before another instance finishes it.
const STEP_TIMEOUT: Duration = Duration::from_secs(1);

/// How many PUTs one sweep finishes at most.
const FINISHED_PER_SWEEP: usize = 16;

/// What became of the list of a PUT.
enum Completed {
    Decided,
    /// A PUT that began later was decided already.
    Superseded,
    Late,
}

/// The reply of `group_step.lua`.
struct Step {
    more: bool,
    number: u64,
    written: GroupWritten,
    left: Vec<UserId>,
}

impl RedisStore {
    pub(super) async fn put_by_steps(
        &self,
        group: &GroupId,
        members: &[UserId],
    ) -> Result<GroupWritten, StoreError> {
        let begin = self.about_group(&self.scripts.group_begin, group);
        let route = self.lanes.to(self.partition_of(group));
        let number: u64 = route.script(&begin).await?;
        for _ in 0..ATTEMPTS {
            match self.send_list(group, members, number).await? {
                Completed::Decided => return self.make_all_steps(group, Some(number)).await,
                Completed::Superseded => {
                    // The users are recorded and may not be members.
                    self.former_members.add(group, members.to_vec());
                    return self.superseded(group).await;
                }
                Completed::Late => self.read_clock(self.partition_of(group)).await?,
            }
        }
        Err(StoreError::too_slow())
    }

    /// Finishes PUTs that made no step for a second, and forgets former members. Only looks at the partitions with a
    /// PUT under way at the last look, and with a message since: a PUT that is decided sends one.
    pub(in crate::store) async fn finish_puts(&self) -> Result<(), StoreError> {
        let partitions = self.layout.partitions().all();
        let partitions = partitions.filter(|each| self.quiet.take_news(*each));
        let finished = join_all(partitions.map(|each| self.finish_puts_in(each))).await;
        self.forget_former().await?;
        finished.into_iter().collect()
    }

    async fn finish_puts_in(&self, partition: Partition) -> Result<(), StoreError> {
        let finished = self.finish_some_puts_in(partition).await;
        if !matches!(finished, Ok(false)) {
            // Look again.
            self.quiet.note_news(partition);
        }
        finished.map(drop)
    }

    /// Returns whether PUTs were under way.
    async fn finish_some_puts_in(&self, partition: Partition) -> Result<bool, StoreError> {
        let latest = self.now(partition).minus(STEP_TIMEOUT).as_millis();
        let keys = self.layout.keys(partition);
        let mut zrange = redis::cmd("ZRANGE");
        zrange.arg(&keys.puts_under_way).arg(0);
        zrange.arg(FINISHED_PER_SWEEP - 1).arg("WITHSCORES");
        let route = self.lanes.to(partition);
        let groups: Vec<(String, f64)> = route.query_idempotent(&zrange).await?;
        let are_under_way = !groups.is_empty();
        let still = groups
            .into_iter()
            .take_while(|(_, step)| *step <= latest as f64);
        for (group, _) in still {
            let group = GroupId::new(&group).map_err(unexpected)?;
            self.make_all_steps(&group, None).await?;
        }
        Ok(are_under_way)
    }

    /// Records the members, and sends the list.
    async fn send_list(
        &self,
        group: &GroupId,
        members: &[UserId],
        number: u64,
    ) -> Result<Completed, StoreError> {
        let not_after = self.now(self.partition_of(group)).plus(ADDED_WITHIN);
        let keys = self.layout.of_group(group);
        let list = keys.group_list(group, number);
        try_join(
            self.record(group, members),
            self.append(keys, &list, members),
        )
        .await?;
        let route = self.lanes.to(keys.partition);
        let mut complete = self.about_group(&self.scripts.group_complete, group);
        complete.key(&list);
        complete
            .arg(not_after.as_millis())
            .arg(number)
            .arg(members.len());
        loop {
            let outcome: String = route.script(&complete).await?;
            match &*outcome {
                "complete" => return Ok(Completed::Decided),
                "superseded" => return Ok(Completed::Superseded),
                "late" => return Ok(Completed::Late),
                "busy" => drop(self.make_all_steps(group, None).await?),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Appends the members to the list of a PUT.
    async fn append(&self, keys: &Keys, list: &str, members: &[UserId]) -> Result<(), StoreError> {
        if members.is_empty() {
            return Ok(());
        }
        let mut append = Pipeline::new();
        for part in members.chunks(PART) {
            append.cmd("SADD").arg(list);
            for user in part {
                append.arg(user.as_str());
            }
        }
        append.cmd("EXPIRE").arg(list).arg(LIST_KEPT.as_secs());
        let route = self.lanes.to(keys.partition);
        let answers = route.pipeline_idempotent(&append).await?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }

    /// Finishes the PUT under way, or only the PUT `number`, and forgets the members that left. Returns the result of
    /// the last step.
    pub(super) async fn make_all_steps(
        &self,
        group: &GroupId,
        number: Option<u64>,
    ) -> Result<GroupWritten, StoreError> {
        let mut written = GroupWritten {
            members: 0,
            added: 0,
            removed: 0,
        };
        let mut left = Vec::new();
        let began = self.now(self.partition_of(group));
        loop {
            let step = self.step(group).await?;
            left.extend(step.left);
            // With another number, another call has finished the PUT and began its own.
            let is_wanted = number.is_none_or(|number| step.number == number);
            if is_wanted {
                written = step.written;
            }
            if !is_wanted || !step.more {
                self.forget(group, left, began).await;
                return Ok(written);
            }
        }
    }

    /// Makes one step of the PUT under way, if there is one.
    async fn step(&self, group: &GroupId) -> Result<Step, StoreError> {
        let mut step = self.about_group(&self.scripts.group_step, group);
        step.arg(STEP);
        let route = self.lanes.to(self.partition_of(group));
        let answer: Vec<Value> = route.script(&step).await?;
        let mut values = answer.into_iter();
        Ok(Step {
            more: take(&mut values)?,
            number: take(&mut values)?,
            written: GroupWritten {
                members: take(&mut values)?,
                added: take(&mut values)?,
                removed: take(&mut values)?,
            },
            left: user_ids(values)?,
        })
    }

    /// The result of a PUT that is followed by another one already: the group as it is, without a change.
    async fn superseded(&self, group: &GroupId) -> Result<GroupWritten, StoreError> {
        let members = self.stored_members(group).await?.len();
        Ok(GroupWritten {
            members,
            added: 0,
            removed: 0,
        })
    }
}
