//! Whether the servers accept calls.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::connection::{asks_for_rights, check_reply};
use super::store::RedisStore;
use crate::model::Partition;
use crate::store::error::StoreError;
use crate::store::readiness::Readiness;

/// How long a readiness check waits for a server.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

impl RedisStore {
    /// Asks for the rights of the Redis user. Then sends a write command, because a replica and a server without memory
    /// accept `PING` but refuse writes. `SETRANGE` of an empty value neither changes nor creates a key.
    pub(in crate::store) async fn check(&self) -> Readiness {
        if let Some(unfit) = self.unfit() {
            return Readiness::NotReady(unfit.cause());
        }
        let table = self.lanes.topology.table();
        let nodes = 0..table.nodes().len();
        let firsts = nodes.filter_map(|node| table.partitions_of(node).iter().next());
        let checks = join_all(firsts.map(|partition| self.check_one(partition))).await;
        let failed = checks.iter().filter(|check| check.is_err()).count();
        let lacking = self.lanes.topology.lacking();
        match (failed, checks.len()) {
            (0, 0) => {
                let why = || shown(&self.lanes.topology.why_unserved());
                Readiness::NotReady(lacking.unwrap_or_else(why))
            }
            (0, _) => lacking.map_or(Readiness::Ready, Readiness::Degraded),
            (failed, all) if failed == all => {
                let error = checks.into_iter().find_map(Result::err);
                Readiness::NotReady(error.as_ref().map_or_else(String::new, shown))
            }
            (failed, all) => {
                let silent = format!("{failed} of {all} masters do not answer");
                let lacking = lacking.map(|lacking| format!("{lacking}; {silent}"));
                Readiness::Degraded(lacking.unwrap_or(silent))
            }
        }
    }

    async fn check_one(&self, partition: Partition) -> Result<(), StoreError> {
        let (keys, route) = (self.layout.keys(partition), self.lanes.to(partition));
        let mut setrange = redis::cmd("SETRANGE");
        setrange.arg(&keys.epoch).arg(0).arg("");
        let checks = async {
            let missing: Vec<String> = route.query(&asks_for_rights(keys)).await?;
            check_reply(&missing)?;
            route.query::<()>(&setrange).await
        };
        let answer = timeout(READY_TIMEOUT, checks).await;
        answer.unwrap_or_else(|_| Err(StoreError::too_slow()))
    }
}

/// The cause for callers, to whom the replies of servers are not shown.
fn shown(error: &StoreError) -> String {
    match error {
        StoreError::Unfit(cause) => cause.clone(),
        StoreError::Forbidden(_) => {
            "the Redis user may not run every command that the service needs".to_owned()
        }
        _ => "the store does not answer".to_owned(),
    }
}
