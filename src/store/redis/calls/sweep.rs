//! A sweep: due users that are alive are re-armed, and the departures of the others are announced or held.

use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, ScriptInvocation, Value};
use tracing::debug;

use super::sweep_round::Round;
use crate::model::{Partition, PartitionSet, Timestamp, UserId, millis};
use crate::store::error::StoreError;
use crate::store::node_id::NodeId;
use crate::store::policy::UNNOTICED;
use crate::store::redis::format::keys::Keys;
use crate::store::redis::format::replies::{self, Due};
use crate::store::redis::node::Node;
use crate::store::redis::routing::route::Route;
use crate::store::redis::scripts::APPLY_SHORTENED;
use crate::store::redis::store::RedisStore;
use crate::store::swept::Swept;

/// How long before the deadline in the index a sweep looks at a user. This is longer than the time between two sweeps
/// of a partition that is not quiet, so a sweep learns of pings before the deadline that the index has.
const SWEEP_AHEAD: Duration = Duration::from_millis(400);

/// With at least this many batches of overdue users, an instance takes a random batch of them.
const SEVERAL_BATCHES: u64 = 3;

/// How long the stream of shortened deadlines keeps an entry; `NOTED_FOR` in `gathered.lua`. A deadline that was
/// read longer ago is still written, and a recheck of all users follows.
const NOTED_FOR: Duration = Duration::from_secs(5);

/// How much longer than the TTL of a delicate connection the key `delicate` exists; `announce.lua` has the same number.
const DELICATE_FOR: Duration = Duration::from_secs(2);

/// How many users whose state may change without a call one sweep looks at.
const CHANGES: i64 = 250;

/// How many users one step of a recheck reads, and how many steps a sweep makes. With a sweep every 100 ms, a recheck
/// of a million users takes less than a minute.
pub(in crate::store::redis) const RECHECK_STEP: usize = 500;
const RECHECK_STEPS: usize = 4;

/// A due user that is alive.
struct Alive<'a> {
    user: &'a UserId,
    /// In milliseconds.
    deadline: u64,
    /// The fraction of the score in the index, which names a grant.
    fraction: f64,
}

impl RedisStore {
    /// Sweeps the partitions on `node` once. Leaves out the partitions whose sweep failed, and fails if all failed.
    pub(in crate::store) async fn sweep(
        &self,
        node: NodeId,
        partitions: PartitionSet,
    ) -> Result<Vec<Swept>, StoreError> {
        let Some(node) = self.lanes.topology.node(node) else {
            return Err(StoreError::Unreachable(
                "the node left the cluster".to_owned(),
            ));
        };
        let served = partitions
            .iter()
            .filter(|each| node.served().contains(*each));
        let served: Vec<_> = served.collect();
        let round = Round::of(served.len());
        let sweeps = served.into_iter();
        let sweeps = sweeps.map(|partition| self.sweep_partition(partition, &node, &round));
        let (mut swept, mut failed) = (Vec::new(), None);
        for sweep in join_all(sweeps).await {
            match sweep {
                Ok(sweep) => swept.push(sweep),
                Err(error) => {
                    debug!(%error, "the sweep of a partition failed");
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if swept.is_empty() => Err(error),
            _ => Ok(swept),
        }
    }

    /// The way to a partition. A slow one must not delay the others.
    fn way(&self, keys: &Keys) -> Route<'_> {
        self.lanes.to(keys.partition).without_pauses()
    }

    async fn sweep_partition(
        &self,
        partition: Partition,
        node: &Node,
        round: &Round,
    ) -> Result<Swept, StoreError> {
        let keys = self.layout.keys(partition);
        let due = self.begin_sweep(partition, node).await?;
        // An error means that the semaphore is closed, which it never is.
        let _permit = round.at_once.acquire().await;
        let ((left, lateness_ms), rearmed) = self.sweep_due(keys, &due, round.batch).await?;
        let (changed, more_changes) = match self.change(keys, &due).await {
            Ok(read) => (Ok(()), read >= CHANGES as usize),
            Err(error) => (Err(error), false),
        };
        self.deliver_old_messages(keys, &due);
        let (seats_ended, more_groups) = match self.sweep_groups(keys, &due).await {
            Ok(more) => (Ok(()), more),
            Err(error) => (Err(error), false),
        };
        let rechecked = match due.recheck {
            Some(place) => self.recheck(keys, place).await,
            None => Ok(()),
        };
        Ok(Swept {
            partition,
            former: due.former,
            now: due.now,
            epoch: due.epoch,
            newest: due.newest,
            overdue: due.overdue,
            announced: due.announced,
            is_delicate: due.is_delicate,
            more: due.overdue >= round.batch || more_changes || more_groups,
            left,
            lateness_ms,
            next_due: match due.recheck {
                Some(_) => Some(due.now),
                None => due.next_look(),
            },
            unfinished: rearmed.and(changed).and(seats_ended).and(rechecked).err(),
        })
    }

    /// Runs `due.lua`. Closes the main connection of `node` if the partition belongs to a store with another layout.
    async fn begin_sweep(&self, partition: Partition, node: &Node) -> Result<Due, StoreError> {
        let keys = self.layout.keys(partition);
        let mut begin = self.about_connections(&self.scripts.due, keys);
        begin
            .key(&keys.recheck)
            .key(&keys.shortened)
            .key(&keys.layout)
            .key(&keys.due_groups)
            .key(&keys.outbox)
            .key(&keys.absent);
        let parts = self.layout.partitions().count() as u64;
        begin.arg(self.lifetimes.history_bytes / parts);
        begin.arg(&self.layout.records());
        let asked = Timestamp::of_system_clock();
        let due: Vec<Value> = self.way(keys).script(&begin).await?;
        if let Some(record) = replies::other_layout(&due) {
            let refusal = self.layout.refusal(record);
            node.main.close_now(refusal.clone());
            return Err(refusal);
        }
        let due = replies::due(due)?;
        node.clock.set(due.now, asked);
        self.grants[partition.index()].set(due.grant);
        Ok(due)
    }

    /// Makes the changes of states that are due without a call. Returns how many users were looked at.
    async fn change(&self, keys: &Keys, due: &Due) -> Result<usize, StoreError> {
        if due.next_change.is_none_or(|next| next > due.now) {
            return Ok(0);
        }
        let mut read = redis::cmd("ZRANGE");
        read.arg(&keys.changes)
            .arg("-inf")
            .arg(due.now.as_millis())
            .arg("BYSCORE")
            .arg("LIMIT")
            .arg(0)
            .arg(CHANGES);
        let users = self.way(keys).query_idempotent::<Vec<Value>>(&read).await?;
        let users = replies::user_ids(users)?;
        let mut change = self.about_connections(&self.scripts.change, keys);
        change.arg(millis(self.lifetimes.last_seen));
        for user in &users {
            change.key(keys.user(user)).key(keys.connections(user));
            change.arg(user.as_str());
        }
        change.key(&keys.absent);
        self.way(keys).script::<u64>(&change).await?;
        Ok(users.len())
    }

    /// Sweeps a batch of the users that are due. Returns what [`Self::announce`] returns, and whether the users that
    /// are alive were re-armed.
    async fn sweep_due(
        &self,
        keys: &Keys,
        due: &Due,
        batch: u64,
    ) -> Result<((usize, Vec<u64>), Result<(), StoreError>), StoreError> {
        let ahead = due.now.plus(SWEEP_AHEAD);
        if due.next.is_none_or(|next| next >= ahead) {
            return Ok(((0, Vec::new()), Ok(())));
        }
        let members = self
            .way(keys)
            .query_idempotent(&first_due(keys, due, ahead, batch))
            .await?;
        let (users, fractions): (Vec<_>, Vec<_>) = replies::scored(members)?.into_iter().unzip();
        // Another instance may have swept the users since.
        if users.is_empty() {
            return Ok(((0, Vec::new()), Ok(())));
        }
        let (mut gone, mut alive) = (Vec::new(), Vec::new());
        let deadlines = self.deadlines(keys, &users).await?;
        for ((user, fraction), deadline) in users.iter().zip(fractions).zip(deadlines) {
            match deadline {
                Some(deadline) => alive.push(Alive {
                    user,
                    deadline,
                    fraction,
                }),
                None => gone.push(user),
            }
        }
        // Departures are urgent, and independent of the re-arm.
        let (announced, rearmed) = tokio::join!(
            self.announce(keys, &gone),
            self.rearm(keys, &alive, due.now)
        );
        Ok((announced?, rearmed))
    }

    /// Writes the deadlines of users into the index; the deadlines were read at `since` or later.
    ///
    /// Nearly all due users are alive, so this uses one plain command for all of them. A deadline may change between
    /// its read and this write:
    ///
    /// - A ping extends it. Then a later sweep looks at the user again.
    /// - The departure of the user is held until a later time. `GT` keeps that time.
    /// - A disconnect or another grant shortens it. `apply_shortened.lua` corrects that in the same transaction.
    async fn rearm(
        &self,
        keys: &Keys,
        alive: &[Alive<'_>],
        since: Timestamp,
    ) -> Result<(), StoreError> {
        if alive.is_empty() {
            return Ok(());
        }
        let mut rearm = redis::cmd("ZADD");
        rearm.arg(&keys.deadlines).arg("XX").arg("GT");
        for each in alive {
            // A double holds a time in milliseconds plus a fraction in 4,096ths exactly.
            let score = each.deadline as f64 + each.fraction;
            rearm.arg(score).arg(each.user.as_str());
        }
        let mut apply = redis::cmd("EVAL");
        apply.arg(APPLY_SHORTENED).arg(5);
        apply.arg(&keys.deadlines).arg(&keys.shortened);
        apply.arg(&keys.held).arg(&keys.recheck).arg(&keys.absent);
        apply.arg(since.as_millis()).arg(millis(NOTED_FOR));
        let mut step = redis::pipe();
        step.atomic().add_command(rearm).add_command(apply);
        // A connection with a longer TTL absorbs the stalls. It may be near its end, and then it looks like a delicate
        // one.
        let least = self.lifetimes.ttl_that_absorbs(UNNOTICED);
        let near = since.plus(least).as_millis();
        if alive.iter().any(|each| each.deadline < near) {
            let kept = millis(least + DELICATE_FOR);
            step.cmd("SET")
                .arg(&keys.delicate)
                .arg("")
                .arg("PX")
                .arg(kept);
        }
        self.way(keys).transaction(&step, None).await.map(drop)
    }

    /// The deadline of each of `users` in milliseconds; `None` for a user that is not online.
    async fn deadlines(
        &self,
        keys: &Keys,
        users: &[UserId],
    ) -> Result<Vec<Option<u64>>, StoreError> {
        let mut read = redis::Pipeline::with_capacity(users.len());
        for user in users {
            let mut one = redis::Cmd::with_capacity(2, 0);
            one.arg("PEXPIRETIME");
            keys.add_user(&mut one, user);
            read.add_command(one);
        }
        let answers = self.way(keys).pipeline_idempotent(&read).await?;
        answers
            .into_iter()
            .map(|answer| replies::deadline(answer?))
            .collect()
    }

    /// Announces or holds the departures of `users`. Returns how many of the announced ones disconnected with a grace
    /// period, and the lateness of each announced departure, first of these.
    async fn announce(
        &self,
        keys: &Keys,
        users: &[&UserId],
    ) -> Result<(usize, Vec<u64>), StoreError> {
        if users.is_empty() {
            return Ok((0, Vec::new()));
        }
        let sweep = self.departures(keys, users);
        let mut announced: Vec<u64> = self.way(keys).script(&sweep).await?;
        if announced.is_empty() {
            return Err(replies::unexpected("an incomplete reply"));
        }
        let left = announced.remove(0);
        Ok((usize::try_from(left).unwrap_or(usize::MAX), announced))
    }

    /// An invocation of `sweep.lua` for due users.
    pub(in crate::store::redis) fn departures(
        &self,
        keys: &Keys,
        users: &[&UserId],
    ) -> ScriptInvocation<'_> {
        let mut sweep = self.about_connections(&self.scripts.sweep, keys);
        sweep.arg(millis(self.lifetimes.last_seen));
        for user in users {
            sweep.key(keys.user(user)).key(keys.connections(user));
            sweep.arg(user.as_str());
        }
        sweep.key(&keys.absent).key(&keys.last_seen);
        sweep
    }

    /// Continues the recheck of all users, which follows when the clock was set back, from `place` of the iteration on.
    /// Several instances may repeat a part. No part is left out, because the place is written after the part is done.
    async fn recheck(&self, keys: &Keys, mut place: u64) -> Result<(), StoreError> {
        for _ in 0..RECHECK_STEPS {
            let mut zscan = redis::cmd("ZSCAN");
            zscan.arg(&keys.deadlines).arg(place);
            zscan.arg("COUNT").arg(RECHECK_STEP);
            let (next, members): (u64, Vec<(String, f64)>) =
                self.way(keys).query_idempotent(&zscan).await?;
            let members = replies::scored(members)?;
            let users: Vec<_> = members.iter().map(|(user, _)| user).collect();
            let recheck = self.rechecked(keys, place, next, &users);
            self.way(keys).script::<()>(&recheck).await?;
            place = next;
            if place == 0 {
                break;
            }
        }
        Ok(())
    }

    /// An invocation of `recheck.lua` for the users between two places of the iteration.
    pub(in crate::store::redis) fn rechecked(
        &self,
        keys: &Keys,
        place: u64,
        next: u64,
        users: &[&UserId],
    ) -> ScriptInvocation<'_> {
        let mut recheck = self.about_connections(&self.scripts.recheck, keys);
        recheck.key(&keys.recheck);
        recheck.arg(place.to_string()).arg(next.to_string());
        for user in users {
            recheck.key(keys.user(user)).key(keys.connections(user));
            recheck.arg(user.as_str());
        }
        recheck.key(&keys.absent);
        recheck
    }
}

/// The command that reads the first batch of due users. If several batches are overdue, the batch is a random one:
/// after an outage all instances catch up, and each would read all batches if every instance began with the first.
fn first_due(keys: &Keys, due: &Due, ahead: Timestamp, batch: u64) -> Cmd {
    let mut read = redis::cmd("ZRANGE");
    read.arg(&keys.deadlines);
    if due.overdue < SEVERAL_BATCHES * batch {
        read.arg("-inf").arg(format!("({}", ahead.as_millis()));
        read.arg("BYSCORE").arg("LIMIT").arg(0).arg(batch);
    } else {
        let first = fastrand::u64(..due.overdue / batch) * batch;
        read.arg(first).arg(first + batch - 1);
    }
    read.arg("WITHSCORES");
    read
}
