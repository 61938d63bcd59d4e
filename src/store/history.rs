//! The reads of the history of events.

use super::Store;
use super::error::StoreError;
use crate::model::{Epoch, History, Partition, PartitionSet, Position};

impl Store {
    /// At most `limit` events of a partition after `position`, and the newest position.
    pub async fn history(
        &self,
        partition: Partition,
        position: Position,
        limit: usize,
    ) -> Result<History, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.history(position, limit)),
            Self::Redis(store) => store.history(partition, position, limit).await,
        }
    }

    /// At most `limit` events of a partition before a position, or the newest events, newest first; and the newest
    /// position.
    pub async fn history_before(
        &self,
        partition: Partition,
        before: Option<Position>,
        limit: usize,
    ) -> Result<History, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.history_before(before, limit)),
            Self::Redis(store) => store.history_before(partition, before, limit).await,
        }
    }

    /// The epoch, and the newest position in the history, of each of some partitions, in order.
    pub async fn newest(
        &self,
        partitions: PartitionSet,
    ) -> Vec<(Partition, Result<(Epoch, Position), StoreError>)> {
        match self {
            Self::Memory(store) => {
                let History { epoch, newest, .. } = store.history_before(None, 1);
                let each = partitions.iter();
                each.map(|each| (each, Ok((epoch, newest)))).collect()
            }
            Self::Redis(store) => store.newest(partitions).await,
        }
    }

    /// The epoch, and the newest position in the history, of one partition.
    pub async fn newest_of(&self, partition: Partition) -> Result<(Epoch, Position), StoreError> {
        let newest = self.newest(partition.into()).await.pop();
        let unknown = || StoreError::Failed("a partition without an answer".to_owned());
        newest.ok_or_else(unknown)?.1
    }
}
