//! Reads the history.

use super::replies;
use super::store::RedisStore;
use crate::model::{History, Position};
use crate::store::error::StoreError;

impl RedisStore {
    pub(in crate::store) async fn history(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<History, StoreError> {
        let mut read = self.announcing(&self.scripts.history);
        read.arg(after.to_string()).arg(limit);
        replies::history(self.connections.script(&read).await?)
    }

    pub(in crate::store) async fn history_before(
        &self,
        before: Option<Position>,
        limit: usize,
    ) -> Result<History, StoreError> {
        let end = before.map_or("+".to_owned(), |before| format!("({before}"));
        let mut read = self.announcing(&self.scripts.recent);
        read.arg(end).arg(limit);
        replies::history(self.connections.script(&read).await?)
    }
}
