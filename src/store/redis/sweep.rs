//! A sweep: the living are re-armed to their own deadline, the gone are announced or held.

use std::time::Duration;

use redis::Cmd;

use super::replies::{self, Due};
use super::scripts::AMEND;
use super::store::RedisStore;
use crate::model::{Timestamp, UserId, millis};
use crate::store::{SWEEP_BATCH, StoreError, Swept};

/// How far ahead of its deadline a user is looked at; longer than the time between two sweeps, so
/// that a deadline which pings moved is known before it comes.
const SWEEP_AHEAD: Duration = Duration::from_millis(400);

/// From so many overdue users on, an instance takes one batch of them at random.
const SEVERAL_BATCHES: u64 = 3 * SWEEP_BATCH as u64;

/// For how long a deadline that came nearer is noted, as `connections.lua` says. A deadline that
/// was read longer ago is written down all the same, and then everyone is looked at again.
const NOTED_FOR: Duration = Duration::from_secs(5);

/// How many users a recheck looks at in one step, and how many steps a sweep makes: with a sweep
/// each 100 ms, a million users take less than a minute.
const RECHECK_STEP: usize = 500;
const RECHECK_STEPS: usize = 4;

/// A user who lives: until when, and the fraction of its score, which names a grant.
struct Living<'a> {
    user: &'a UserId,
    deadline: u64,
    fraction: f64,
}

impl RedisStore {
    pub(in crate::store) async fn sweep(&self) -> Result<Swept, StoreError> {
        let mut begin = self.about_connections(&self.scripts.due);
        begin.key(&self.keys.recheck).key(&self.keys.shortened);
        begin.arg(self.lifetimes.history_bytes);
        let asked = Timestamp::of_system_clock();
        let due = replies::due(self.connections.script(&begin).await?)?;
        self.clock.set(due.now, asked);
        self.grant.set(due.grant);
        let (lateness_ms, rearmed) = self.sweep_due(&due).await?;
        let rechecked = match due.recheck {
            Some(place) => self.recheck(place).await,
            None => Ok(()),
        };
        Ok(Swept {
            now: due.now,
            epoch: due.epoch,
            newest: due.newest,
            announced: due.announced,
            more: due.overdue >= SWEEP_BATCH as u64,
            lateness_ms,
            next_due: due.recheck.map_or(due.next, |_| Some(due.now)),
            unfinished: rearmed.and(rechecked).err(),
        })
    }

    /// Sweeps a batch of the users that are due. Returns how late each departure was announced, and whether the users
    /// that are alive were re-armed.
    async fn sweep_due(&self, due: &Due) -> Result<(Vec<u64>, Result<(), StoreError>), StoreError> {
        let ahead = due.now.plus(SWEEP_AHEAD);
        if due.next.is_none_or(|next| next >= ahead) {
            return Ok((Vec::new(), Ok(())));
        }
        let members = self
            .connections
            .query_idempotent(&self.batch(due, ahead))
            .await?;
        let (users, fractions): (Vec<_>, Vec<_>) = replies::scored(members)?.into_iter().unzip();
        // Another instance may have swept them in between.
        if users.is_empty() {
            return Ok((Vec::new(), Ok(())));
        }
        let (mut gone, mut living) = (Vec::new(), Vec::new());
        let deadlines = self.deadlines(&users).await?;
        for ((user, fraction), deadline) in users.iter().zip(fractions).zip(deadlines) {
            match deadline {
                Some(deadline) => living.push(Living {
                    user,
                    deadline,
                    fraction,
                }),
                None => gone.push(user),
            }
        }
        // The gone first, since they are who is waited for, and whatever becomes of the living.
        let (lateness_ms, rearmed) =
            tokio::join!(self.announce(&gone), self.rearm(&living, due.now));
        Ok((lateness_ms?, rearmed))
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
        read.arg("WITHSCORES");
        read
    }

    /// Re-arms the living to their deadlines, which were read at `since` or later.
    ///
    /// Nearly everyone who is due is alive, so this does no more for each than it must, by plain
    /// commands. Between reading a deadline and writing it down, a ping may move it away, for which
    /// the user is looked at again; the user may be gone and held, whose time is later, so `GT`
    /// leaves it alone; and a connection that was closed or got another grant may bring the deadline
    /// nearer, which is amended in the same step as it is written.
    async fn rearm(&self, living: &[Living<'_>], since: Timestamp) -> Result<(), StoreError> {
        if living.is_empty() {
            return Ok(());
        }
        let mut rearm = redis::cmd("ZADD");
        rearm.arg(&self.keys.deadlines).arg("XX").arg("GT");
        for each in living {
            // A time in milliseconds and 4,096ths of one have their place in a double.
            let score = each.deadline as f64 + each.fraction;
            rearm.arg(score).arg(each.user.as_str());
        }
        let mut amend = redis::cmd("EVAL");
        amend.arg(AMEND).arg(4);
        amend.arg(&self.keys.deadlines).arg(&self.keys.shortened);
        amend.arg(&self.keys.held).arg(&self.keys.recheck);
        amend.arg(since.as_millis()).arg(millis(NOTED_FOR));
        let mut step = redis::pipe();
        step.atomic().add_command(rearm).add_command(amend);
        self.connections.transaction(&step).await
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
        let answers = self.connections.pipeline_idempotent(&read).await?;
        answers
            .into_iter()
            .map(|answer| replies::deadline(answer?))
            .collect()
    }

    /// Announces those of `users` who are gone or holds their departure, and returns how late.
    async fn announce(&self, users: &[&UserId]) -> Result<Vec<u64>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let mut sweep = self.about_connections(&self.scripts.sweep);
        sweep.arg(millis(self.lifetimes.last_seen));
        for user in users {
            sweep
                .key(self.keys.user(user))
                .key(self.keys.connections(user));
            sweep.arg(user.as_str());
        }
        sweep.key(&self.keys.last_seen);
        self.connections.script(&sweep).await
    }

    /// Goes on with the recheck of everyone that follows when the clock was set back, from `place`
    /// of the iteration on. Several instances may repeat a part; none is left out, because a part is
    /// done before the place moves on.
    async fn recheck(&self, mut place: u64) -> Result<(), StoreError> {
        for _ in 0..RECHECK_STEPS {
            let mut zscan = redis::cmd("ZSCAN");
            zscan.arg(&self.keys.deadlines).arg(place);
            zscan.arg("COUNT").arg(RECHECK_STEP);
            let (next, members): (u64, Vec<(String, f64)>) =
                self.connections.query_idempotent(&zscan).await?;
            let mut recheck = self.about_connections(&self.scripts.recheck);
            recheck.key(&self.keys.recheck);
            recheck.arg(place.to_string()).arg(next.to_string());
            for (user, _) in replies::scored(members)? {
                recheck
                    .key(self.keys.user(&user))
                    .key(self.keys.connections(&user));
                recheck.arg(user.as_str());
            }
            self.connections.script::<()>(&recheck).await?;
            place = next;
            if place == 0 {
                break;
            }
        }
        Ok(())
    }
}
