//! Whether the servers accept calls.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::connection::{IN_CLUSTER, NO_CLUSTER, NO_SHARD_CHANNELS, TOO_OLD};
use super::store::RedisStore;
use crate::model::Partition;
use crate::store::error::StoreError;
use crate::store::readiness::Readiness;

/// How long a readiness check waits for a server.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// The beginnings of the causes that callers of `/readyz` are told. They need no credential, so the words of servers and of
/// the system stay in the log.
const TOLD: [&str; 7] = [
    TOO_OLD,
    IN_CLUSTER,
    NO_CLUSTER,
    NO_SHARD_CHANNELS,
    "the store has ",
    "no master serves ",
    "not connected yet",
];

fn public(cause: String) -> String {
    if TOLD.iter().any(|told| cause.starts_with(told)) {
        cause
    } else {
        "the store is unreachable; try again".to_owned()
    }
}

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
            None if count == 0 => Readiness::NotReady(public(self.lanes.topology.why_unserved())),
            None => lacking.map_or(Readiness::Ready, Readiness::Degraded),
            Some(error) if failures.len() == count => Readiness::NotReady(public(error.cause())),
            Some(error) => {
                let why = format!(
                    "{} of {count} masters do not answer: {}",
                    failures.len(),
                    public(error.cause())
                );
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
