//! The sentinels that know the address of the primary.

use std::collections::HashMap;
use std::time::Duration;

use redis::{AsyncConnectionConfig, ConnectionAddr, RedisResult};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::server::Server;
use crate::store::error::StoreError;

/// How long connecting to a sentinel and its reply may take.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(700);

/// How often the sentinels are asked while the connection to the primary is up. In a planned failover, sentinels make
/// the former primary a replica some 10 s after they have made the replica the primary. Until then the former one
/// accepts calls, and all of them are lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The host and the port of a server.
pub(super) type Address = (String, u16);

/// Some sentinels, and the name of the primary that they watch.
#[derive(Clone, Debug)]
pub(super) struct Sentinels {
    servers: Vec<Server>,
    primary: String,
}

impl Sentinels {
    /// The sentinels at `servers`, which know the primary as `primary`.
    pub(super) fn new(servers: Vec<Server>, primary: String) -> Self {
        Self { servers, primary }
    }

    /// The address that most sentinels name. If no address has so many votes, that with the most of them. Fails if no
    /// sentinel names one.
    pub(super) async fn primary(&self) -> Result<Address, StoreError> {
        let votes = self.votes().await;
        let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
        most.map(|(address, _)| address)
            .ok_or_else(|| StoreError::Unreachable("no sentinel names a primary".into()))
    }

    /// Resolves when most sentinels name another address than `primary`.
    pub(super) async fn have_replaced(&self, primary: &ConnectionAddr) {
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = primary
        else {
            return std::future::pending().await;
        };
        loop {
            sleep(ASK_AGAIN).await;
            let votes = self.votes().await;
            let others = votes
                .into_iter()
                .filter(|((other, its), _)| other != host || its != port);
            if others.into_iter().any(|(_, votes)| self.are_most(votes)) {
                return;
            }
        }
    }

    fn are_most(&self, votes: usize) -> bool {
        votes > self.servers.len() / 2
    }

    /// The number of sentinels that name each address, or of the first ones, if they are most. Asks all sentinels at
    /// once, because a failure of the primary may affect some sentinels too. The address that most sentinels name
    /// counts: a sentinel that lost contact to the others may name a replaced primary.
    async fn votes(&self) -> HashMap<Address, usize> {
        let mut asked = JoinSet::new();
        for sentinel in &self.servers {
            let (sentinel, primary) = (sentinel.clone(), self.primary.clone());
            asked.spawn(async move {
                let answer = timeout(SENTINEL_TIMEOUT, ask(&sentinel, &primary)).await;
                answer.ok()?.ok()?
            });
        }
        let mut votes: HashMap<Address, usize> = HashMap::new();
        while let Some(answer) = asked.join_next().await {
            let Ok(Some(address)) = answer else { continue };
            let votes_of_it = votes.entry(address).or_default();
            *votes_of_it += 1;
            if self.are_most(*votes_of_it) {
                break;
            }
        }
        votes
    }
}

/// The address of `primary` as `sentinel` knows it; `None` if the sentinel does not know the name.
async fn ask(sentinel: &Server, primary: &str) -> RedisResult<Option<Address>> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let (mut connection, _) = sentinel.commands(&config).await?;
    redis::cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(primary)
        .query_async(&mut connection)
        .await
}
