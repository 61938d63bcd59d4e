//! A sweep: the living are re-armed to their own deadline, the gone are announced.

use std::time::Duration;

use redis::{Cmd, Value};

use super::RedisStore;
use super::replies::{self, Due};
use super::scripts::AMEND;
use crate::presence::{Timestamp, UserId, millis};
use crate::store::{Lifetimes, OUTAGE, SWEEP_BATCH, StoreError, Swept};

/// How far ahead of its deadline a user is looked at; longer than the time between two sweeps, so
/// that a deadline which pings moved is known before it comes.
const SWEEP_AHEAD: Duration = Duration::from_millis(400);

/// From so many overdue users on, an instance takes one batch of them at random.
const SEVERAL_BATCHES: u64 = 3 * SWEEP_BATCH as u64;

impl RedisStore {
    pub(in crate::store) async fn sweep(&self) -> Result<Swept, StoreError> {
        let mut begin = self.announcing(&self.scripts.due);
        begin.key(&self.keys.swept).key(&self.keys.grace);
        let interval = self.lifetimes.ping_interval;
        let grace = interval + Lifetimes::margin(interval);
        begin.arg(millis(OUTAGE)).arg(millis(grace));
        let asked = Timestamp::of_system_clock();
        let due = replies::due(self.link.script(&begin).await?)?;
        self.clock.set(due.now, asked);
        let lateness_ms = self.sweep_due(&due).await?;
        Ok(Swept {
            now: due.now,
            epoch: due.epoch,
            newest: due.newest,
            announced: due.announced,
            more: due.overdue >= SWEEP_BATCH as u64,
            lateness_ms,
            next_due: due.next,
        })
    }

    /// Sweeps a batch of those who are due, and returns how late the gone were announced.
    async fn sweep_due(&self, due: &Due) -> Result<Vec<u64>, StoreError> {
        let ahead = due.now.plus(SWEEP_AHEAD);
        if due.next.is_none_or(|next| next >= ahead) {
            return Ok(Vec::new());
        }
        let users: Vec<Value> = self.link.query_again(&self.batch(due, ahead)).await?;
        let users = replies::user_ids(users)?;
        // Another instance may have swept them in between.
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let (mut gone, mut living) = (Vec::new(), Vec::new());
        for (user, deadline) in users.iter().zip(self.deadlines(&users).await?) {
            match deadline {
                Some(deadline) => living.push((user, deadline)),
                None => gone.push(user),
            }
        }
        // The gone first, since they are who is waited for, and whatever becomes of the living.
        let (lateness_ms, rearmed) =
            tokio::join!(self.announce(&gone), self.rearm(&living, due.now));
        rearmed.and(lateness_ms)
    }

    /// Reads the first of those who are due or, where several batches wait, any one of these: after an outage
    /// all instances catch up, and each would look at everyone if all began with the first.
    fn batch(&self, due: &Due, ahead: Timestamp) -> Cmd {
        let batch = SWEEP_BATCH as u64;
        let mut read = redis::cmd("ZRANGE");
        read.arg(&self.keys.deadlines);
        if due.overdue < SEVERAL_BATCHES {
            read.arg("-inf").arg(format!("({}", ahead.as_millis()));
            read.arg("BYSCORE").arg("LIMIT").arg(0).arg(batch);
        } else {
            let first = fastrand::u64(..due.overdue / batch) * batch;
            read.arg(first).arg(first + batch - 1);
        }
        read
    }

    /// Re-arms the living to their deadlines, which were read at `since` or later.
    ///
    /// Nearly everyone who is due is alive, so this does no more for each than it must, by plain
    /// commands. Between reading a deadline and writing it down, a ping may move it away, for which
    /// the user is looked at again; and a closed connection may bring it nearer, which is amended in
    /// the same step as it is written.
    async fn rearm(&self, living: &[(&UserId, u64)], since: Timestamp) -> Result<(), StoreError> {
        if living.is_empty() {
            return Ok(());
        }
        let mut rearm = redis::cmd("ZADD");
        rearm.arg(&self.keys.deadlines).arg("XX").arg("GT");
        for (user, deadline) in living {
            rearm.arg(deadline).arg(user.as_str());
        }
        let mut amend = redis::cmd("EVAL");
        amend.arg(AMEND).arg(2);
        amend.arg(&self.keys.deadlines).arg(&self.keys.shortened);
        amend.arg(since.as_millis());
        let mut step = redis::pipe();
        step.atomic().add_command(rearm).add_command(amend);
        self.link.transaction(&step).await
    }

    /// Until when each of `users` lives, in milliseconds, or `None` for whoever does not.
    async fn deadlines(&self, users: &[UserId]) -> Result<Vec<Option<u64>>, StoreError> {
        let mut read = redis::Pipeline::with_capacity(users.len());
        for user in users {
            let mut one = redis::Cmd::with_capacity(2, 0);
            one.arg("PEXPIRETIME");
            self.keys.add_user(&mut one, user);
            read.add_command(one);
        }
        let answers = self.link.each_again(&read).await?;
        answers
            .into_iter()
            .map(|answer| replies::deadline(answer?))
            .collect()
    }

    /// Announces those of `users` who are gone, and returns how late.
    async fn announce(&self, users: &[&UserId]) -> Result<Vec<u64>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let mut sweep = self.announcing(&self.scripts.sweep);
        sweep.key(&self.keys.swept).key(&self.keys.grace);
        sweep.arg(millis(OUTAGE)).arg(millis(self.lifetimes.ttl));
        sweep.arg(millis(self.lifetimes.last_seen));
        for user in users {
            sweep.key(self.keys.user(user)).key(self.keys.seen(user));
            sweep.arg(user.as_str());
        }
        self.link.script(&sweep).await
    }
}
