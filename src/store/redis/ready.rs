//! Whether the servers accept calls.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::store::RedisStore;
use crate::model::Partition;
use crate::store::error::StoreError;
use crate::store::readiness::Readiness;

/// The cause for clients if a server refuses the write or is unreachable. The text of a 5xx never shows internals.
const REFUSES: &str = "the store does not accept writes";

/// How long a readiness check waits for a server.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

impl RedisStore {
    /// Sends a write command, because a replica and a server without memory accept `PING` but refuse writes. `SETRANGE` of
    /// an empty value neither changes nor creates a key.
    pub(in crate::store) async fn check(&self) -> Readiness {
        let table = self.lanes.topology.table();
        if let Some(defect) = table.nodes().iter().find_map(|node| node.defect()) {
            return Readiness::NotReady(defect.to_owned());
        }
        let firsts =
            (0..table.nodes().len()).filter_map(|node| table.partitions_of(node).iter().next());
        let checks = join_all(firsts.map(|partition| self.check_one(partition))).await;
        let (count, failures) = (checks.len(), checks.into_iter().filter_map(Result::err));
        let failures: Vec<StoreError> = failures.collect();
        let lacking = self.lanes.topology.lacking();
        match failures.first() {
            None if count == 0 => Readiness::NotReady(self.lanes.topology.why_unserved()),
            None => lacking.map_or(Readiness::Ready, Readiness::Degraded),
            Some(_) if failures.len() == count => Readiness::NotReady(REFUSES.to_owned()),
            Some(_) => {
                let why = format!("{} of {count} masters do not accept writes", failures.len());
                Readiness::Degraded(
                    lacking.map_or(why.clone(), |lacking| format!("{lacking}; {why}")),
                )
            }
        }
    }

    async fn check_one(&self, partition: Partition) -> Result<(), StoreError> {
        let mut setrange = redis::cmd("SETRANGE");
        setrange
            .arg(&self.layout.keys(partition).epoch)
            .arg(0)
            .arg("");
        let answer = timeout(
            READY_TIMEOUT,
            self.lanes.to(partition).query::<()>(&setrange),
        )
        .await;
        answer.unwrap_or_else(|_| Err(StoreError::too_slow()))
    }
}
