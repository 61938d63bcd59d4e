//! The delivery of webhooks in Redis: one hash for each receiver, which three scripts read and write.

use std::time::Duration;

use redis::{Value, from_redis_value};

use crate::model::{Claim, Delivery, Partition, millis};
use crate::store::error::StoreError;
use crate::store::policy::DELIVERY_LEASE;
use crate::store::redis::store::RedisStore;

impl RedisStore {
    pub(in crate::store) async fn claim_delivery(
        &self,
        receiver: &str,
        holder: &str,
        first: Option<&str>,
    ) -> Result<Option<Claim>, StoreError> {
        let mut claim = self.scripts.claim_delivery.key(self.delivery_key(receiver));
        claim
            .arg(holder)
            .arg(millis(DELIVERY_LEASE))
            .arg(first.unwrap_or_default());
        read_claim(self.lanes.to(Partition::FIRST).script(&claim).await?)
    }

    pub(in crate::store) async fn record_delivery(
        &self,
        receiver: &str,
        holder: &str,
        delivery: &Delivery,
    ) -> Result<bool, StoreError> {
        let mut record = self
            .scripts
            .record_delivery
            .key(self.delivery_key(receiver));
        record
            .arg(holder)
            .arg(millis(DELIVERY_LEASE))
            .arg(&delivery.cursor)
            .arg(delivery.batch.as_deref().unwrap_or_default())
            .arg(delivery.attempts)
            .arg(millis(delivery.pause));
        self.lanes.to(Partition::FIRST).script(&record).await
    }

    pub(in crate::store) async fn release_delivery(
        &self,
        receiver: &str,
        holder: &str,
    ) -> Result<(), StoreError> {
        let mut release = self
            .scripts
            .release_delivery
            .key(self.delivery_key(receiver));
        release.arg(holder);
        self.lanes.to(Partition::FIRST).script(&release).await
    }
}

impl RedisStore {
    /// The deliveries are in the first partition, because a batch has events of all partitions.
    fn delivery_key(&self, receiver: &str) -> String {
        self.layout.keys(Partition::FIRST).delivery(receiver)
    }
}

/// Reads the reply of `claim_delivery.lua`.
fn read_claim(answer: Vec<Value>) -> Result<Option<Claim>, StoreError> {
    let Some(kind) = answer.first() else {
        return Ok(None);
    };
    let claim = if *kind == Value::BulkString(b"held".to_vec()) {
        let (_, cursor, remaining): (String, String, u64) = read(answer)?;
        Claim::Held {
            cursor,
            remaining: Duration::from_millis(remaining),
        }
    } else {
        let (_, cursor, batch, attempts, pause): (String, String, String, u32, u64) = read(answer)?;
        Claim::Granted(Delivery {
            cursor,
            batch: (!batch.is_empty()).then_some(batch),
            attempts,
            pause: Duration::from_millis(pause),
        })
    };
    Ok(Some(claim))
}

fn read<T: redis::FromRedisValue>(answer: Vec<Value>) -> Result<T, StoreError> {
    from_redis_value(Value::Array(answer))
        .map_err(|error| StoreError::Unreachable(error.to_string()))
}
