//! Look-ups of many users at once.

use redis::{Cmd, Value};

use super::replies;
use super::store::RedisStore;
use crate::model::{Announced, Partition, UserId};
use crate::store::error::StoreError;

/// How many due users one step of a count checks.
const COUNT_STEP: usize = 1_000;

/// How many due users a count checks at most. More users are due only for some seconds after a long outage. The count
/// then assumes the same share of offline users among the rest.
const COUNT_MAX: usize = 50 * COUNT_STEP;

/// The usual size of the key of a user. Longer keys make a command reallocate.
const USER_KEY_BYTES: usize = 48;

impl RedisStore {
    pub(in crate::store) async fn online_among(
        &self,
        users: &[UserId],
    ) -> Result<Vec<bool>, StoreError> {
        self.with_deadline(Partition::FIRST, self.are_online(users))
            .await
    }

    /// Like [`Self::online_among`], as a part of a call with a deadline.
    pub(super) async fn are_online(&self, users: &[UserId]) -> Result<Vec<bool>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let mut mget = Cmd::with_capacity(1 + users.len(), users.len() * USER_KEY_BYTES);
        mget.arg("MGET");
        for user in users {
            self.layout.of(user).add_user(&mut mget, user);
        }
        let values: Vec<Value> = self
            .lanes
            .to(Partition::FIRST)
            .query_idempotent(&mget)
            .await?;
        Ok(values.iter().map(|value| *value != Value::Nil).collect())
    }

    /// The number of announced users, without the due users that are offline.
    pub(in crate::store) async fn count(&self) -> Result<u64, StoreError> {
        self.with_deadline(Partition::FIRST, self.count_of(Partition::FIRST))
            .await
    }

    async fn count_of(&self, partition: Partition) -> Result<u64, StoreError> {
        let keys = self.layout.keys(partition);
        let (mut checked, mut gone) = (0, 0);
        loop {
            let mut count = self.announcing(&self.scripts.count, keys);
            count.arg(checked).arg(COUNT_STEP);
            let answer: Vec<Value> = self.lanes.to(partition).script(&count).await?;
            let counted = replies::counted(answer)?;
            let online = self.are_online(&counted.to_check).await?;
            gone += online.iter().filter(|online| !**online).count() as u64;
            checked += COUNT_STEP as u64;
            if checked >= counted.due {
                return Ok(counted.announced.saturating_sub(gone));
            }
            if checked >= COUNT_MAX as u64 {
                let gone = u128::from(gone) * u128::from(counted.due) / u128::from(checked);
                let gone = u64::try_from(gone).unwrap_or(u64::MAX);
                return Ok(counted.announced.saturating_sub(gone));
            }
        }
    }

    pub(in crate::store) async fn announced_among(
        &self,
        users: &[UserId],
    ) -> Result<Announced, StoreError> {
        let partition = Partition::FIRST;
        let mut read = self.announcing(&self.scripts.announced, self.layout.keys(partition));
        for user in users {
            read.arg(user.as_str());
        }
        let answer = self
            .with_deadline(partition, self.lanes.to(partition).script(&read))
            .await?;
        let (epoch, position, users) = replies::announced(answer, users)?;
        Ok(Announced {
            at: vec![(partition, epoch, position)],
            users,
        })
    }
}
