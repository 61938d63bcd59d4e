//! Reads the history.

use super::replies;
use super::store::RedisStore;
use crate::model::{Epoch, History, Partition, PartitionSet, Position};
use crate::store::error::StoreError;

impl RedisStore {
    pub(in crate::store) async fn history(
        &self,
        partition: Partition,
        after: Position,
        limit: usize,
    ) -> Result<History, StoreError> {
        let mut read = self.announcing(&self.scripts.history, self.layout.keys(partition));
        read.key(&self.layout.keys(partition).absent);
        read.arg(after.to_string()).arg(limit);
        replies::history(self.lanes.to(partition).script(&read).await?)
    }

    pub(in crate::store) async fn history_before(
        &self,
        partition: Partition,
        before: Option<Position>,
        limit: usize,
    ) -> Result<History, StoreError> {
        let end = before.map_or("+".to_owned(), |before| format!("({before}"));
        let mut read = self.announcing(&self.scripts.recent, self.layout.keys(partition));
        read.key(&self.layout.keys(partition).absent);
        read.arg(end).arg(limit);
        replies::history(self.lanes.to(partition).script(&read).await?)
    }

    pub(in crate::store) async fn newest(
        &self,
        partitions: PartitionSet,
    ) -> Vec<(Partition, Result<(Epoch, Position), StoreError>)> {
        let mut newest = Vec::new();
        for partition in partitions.iter() {
            let read = self.with_deadline(partition, self.history_before(partition, None, 1));
            let read = read.await.map(|history| (history.epoch, history.newest));
            newest.push((partition, read));
        }
        newest
    }
}
