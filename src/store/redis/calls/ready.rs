//! Whether the servers accept calls.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::model::Partition;
use crate::store::error::StoreError;
use crate::store::readiness::Readiness;
use crate::store::redis::connection::{asks_for_rights, check_reply};
use crate::store::redis::store::RedisStore;

/// How long a readiness check waits for a server.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

impl RedisStore {
    /// Asks for the rights of the Redis user. Then sends a write command, because a replica and a server without memory
    /// accept `PING` but refuse writes. `SETRANGE` of an empty value neither changes nor creates a key.
    pub(in crate::store) async fn check(&self) -> Readiness {
        let table = self.lanes.topology.table();
        let serving = table
            .nodes()
            .iter()
            .filter(|node| !node.served().is_empty());
        let unfit: Vec<_> = serving.map(|node| node.unfit()).collect();
        let is_all = unfit.iter().all(Option::is_some) || !self.layout.is_known();
        let unfit = unfit.into_iter().flatten().next();
        if let Some(unfit) = &unfit
            && is_all
        {
            return Readiness::NotReady(unfit.cause());
        }
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
            (0, _) => {
                let reason = lacking.or(unfit.map(|unfit| unfit.cause()));
                reason.map_or(Readiness::Ready, Readiness::ReadyWithReason)
            }
            (failed, all) if failed == all => {
                let error = checks.into_iter().find_map(Result::err);
                Readiness::NotReady(error.as_ref().map_or_else(String::new, shown))
            }
            (failed, all) => {
                let error = checks.into_iter().find_map(Result::err);
                let why = error.as_ref().map_or_else(String::new, shown);
                let failing = format!("{failed} of {all} masters cannot be used: {why}");
                let lacking = lacking.map(|lacking| format!("{lacking}; {failing}"));
                Readiness::ReadyWithReason(lacking.unwrap_or(failing))
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

/// Parts of causes, and what callers are told instead.
const TELLING: [(&str, &str); 6] = [
    (
        "invalid peer certificate",
        "the certificate of the server is not trusted",
    ),
    (
        "answer with TLS",
        "the server does not answer with TLS, which REDIS_URL requires",
    ),
    (
        "closed the connection before it answered",
        "the server closes connections before it answers",
    ),
    (
        "the protocol of Redis",
        "the server does not speak the protocol of Redis",
    ),
    (
        "failed to lookup address",
        "the host name of the server has no address",
    ),
    ("refused", "the server refuses connections"),
];

/// The cause for callers, to whom the replies of servers are not shown.
fn shown(error: &StoreError) -> String {
    match error {
        StoreError::Unfit(cause) => cause.clone(),
        StoreError::Forbidden(_) => {
            "the Redis user may not run every command that the service needs".to_owned()
        }
        _ => {
            let cause = error.cause();
            let telling = TELLING.iter().find(|(part, _)| cause.contains(part));
            telling
                .map_or("the store does not answer", |(_, told)| *told)
                .to_owned()
        }
    }
}
