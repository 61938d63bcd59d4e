//! The address of the primary, looked up for every new main connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError, RedisResult};
use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::server::Server;
use crate::config::{InvalidSetting, RedisUrl};
use crate::store::error::StoreError;
use crate::tls_roots::trusting_only;

/// How long connecting to a sentinel and its reply may take.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(700);

/// Where the primary is: a fixed address, or sentinels that know the address.
#[derive(Debug)]
pub(in crate::store::redis) struct Endpoint {
    server: ConnectionInfo,
    sentinels: Vec<Server>,
    primary_name: String,
    tls: Option<Arc<ClientConfig>>,
}

type Address = (String, u16);

impl Endpoint {
    /// The endpoint that `url` describes. TLS trusts only the certificates in the PEM text `authorities`; `None` means
    /// the public certificate authorities. Fails if the URL or the PEM text is invalid.
    pub(in crate::store::redis) fn new(
        url: &RedisUrl,
        authorities: Option<Vec<u8>>,
    ) -> Result<Self, InvalidSetting> {
        let tls = authorities.map(|authorities| trusting(&authorities, url));
        if url.is_encrypted() {
            // This fails if another provider is installed, which serves as well.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let mut endpoint = Self {
            server: url.server().clone(),
            sentinels: Vec::new(),
            primary_name: String::new(),
            tls: tls.transpose()?,
        };
        if let Some(sentinels) = url.sentinels() {
            let addresses = sentinels.addresses.iter().cloned();
            let endpoints = addresses.map(|address| endpoint.server_at(address));
            endpoint.sentinels = endpoints.collect::<RedisResult<_>>().map_err(bad_url)?;
            endpoint.primary_name = sentinels.primary.clone();
        }
        // An invalid address fails at the start, not with the first connection.
        endpoint
            .server_at(endpoint.server.clone())
            .map_err(bad_url)?;
        Ok(endpoint)
    }

    /// The number of the database that connections select.
    pub(in crate::store::redis) fn database(&self) -> i64 {
        self.server.redis_settings().db()
    }

    /// The server that is the primary now. Fails if no sentinel names one.
    pub(super) async fn primary(&self) -> Result<Server, StoreError> {
        let mut server = self.server.clone();
        if !self.sentinels.is_empty() {
            let primary = relocated(server.addr().clone(), self.ask_sentinels().await?);
            server = server.set_addr(primary);
        }
        self.server_at(server)
            .map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// Asks all sentinels at once, because a failure of the primary may affect some sentinels too. The address that
    /// most sentinels name counts: a sentinel that lost contact to the others may name a replaced primary.
    async fn ask_sentinels(&self) -> Result<Address, StoreError> {
        let mut asked = JoinSet::new();
        for sentinel in &self.sentinels {
            let (sentinel, primary) = (sentinel.clone(), self.primary_name.clone());
            asked.spawn(async move {
                let answer = timeout(SENTINEL_TIMEOUT, ask(&sentinel, &primary)).await;
                answer.ok()?.ok()?
            });
        }
        let mut votes: HashMap<Address, usize> = HashMap::new();
        while let Some(answer) = asked.join_next().await {
            let Ok(Some(address)) = answer else { continue };
            let votes = votes.entry(address.clone()).or_default();
            *votes += 1;
            if *votes > self.sentinels.len() / 2 {
                return Ok(address);
            }
        }
        let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
        most.map(|(address, _)| address)
            .ok_or_else(|| StoreError::Unreachable("no sentinel names a primary".into()))
    }

    fn server_at(&self, info: ConnectionInfo) -> RedisResult<Server> {
        Server::new(info, self.tls.clone())
    }
}

fn bad_url(error: RedisError) -> InvalidSetting {
    InvalidSetting::new("REDIS_URL", error.to_string())
}

/// A TLS configuration that trusts only the certificates in the PEM text `authorities`.
fn trusting(authorities: &[u8], url: &RedisUrl) -> Result<Arc<ClientConfig>, InvalidSetting> {
    let bad = |why: String| InvalidSetting::new("PRESENCE_REDIS_CA_FILE", why);
    if !url.is_encrypted() {
        return Err(bad(
            "requires a REDIS_URL that begins with rediss".to_owned()
        ));
    }
    trusting_only(authorities).map(Arc::new).map_err(bad)
}

/// The address of `primary` as `sentinel` knows it; `None` if the sentinel does not know the name.
async fn ask(sentinel: &Server, primary: &str) -> RedisResult<Option<Address>> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let mut connection = sentinel.commands(&config).await?;
    redis::cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(primary)
        .query_async(&mut connection)
        .await
}

/// The same kind of address with another host and port.
fn relocated(mut address: ConnectionAddr, to: Address) -> ConnectionAddr {
    if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } =
        &mut address
    {
        (*host, *port) = to;
    }
    address
}
