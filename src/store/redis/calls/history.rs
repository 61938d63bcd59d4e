//! Reads the history.

use futures_util::future::join_all;

use crate::model::{Epoch, History, Partition, PartitionSet, Position};
use crate::store::error::StoreError;
use crate::store::redis::format::replies;
use crate::store::redis::store::RedisStore;

impl RedisStore {
    pub(in crate::store) async fn history(
        &self,
        partition: Partition,
        after: Position,
        limit: usize,
    ) -> Result<History, StoreError> {
        let keys = self.layout.keys(partition);
        let run = self.lanes.with_node(partition, |node| node.main.run());
        let run = run.flatten();
        let mut read = self.announcing(&self.scripts.history, keys);
        read.key(&keys.master).key(&keys.absent);
        read.arg(after.to_string()).arg(limit);
        read.arg(run.as_deref().unwrap_or_default());
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
        let reads = partitions.iter().map(|partition| async move {
            let newest = self.with_deadline(partition, self.newest_in(partition));
            (partition, newest.await)
        });
        join_all(reads).await
    }

    async fn newest_in(&self, partition: Partition) -> Result<(Epoch, Position), StoreError> {
        let keys = self.layout.keys(partition);
        let mut read = self.scripts.newest.prepare_invoke();
        read.key(&keys.deadlines)
            .key(&keys.events)
            .key(&keys.epoch)
            .key(&keys.absent);
        let newest: Option<(u64, String)> = self.lanes.to(partition).script(&read).await?;
        match newest {
            Some((epoch, newest)) => Ok((Epoch(epoch), replies::position(newest)?)),
            None => {
                let history = self.history_before(partition, None, 1).await?;
                Ok((history.epoch, history.newest))
            }
        }
    }
}
