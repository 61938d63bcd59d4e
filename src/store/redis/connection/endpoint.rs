//! The way to the server that holds the data, looked up anew for every connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError, RedisResult};
use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::server::Server;
use crate::config::{InvalidSetting, RedisUrl};
use crate::store::StoreError;
use crate::tls_roots::trusting_only;

/// How long a sentinel may take to be reached and to answer.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(700);

/// The way to one Redis.
#[derive(Debug)]
pub(in crate::store::redis) struct Endpoint {
    server: ConnectionInfo,
    sentinels: Vec<Server>,
    primary_name: String,
    tls: Option<Arc<ClientConfig>>,
}

type Address = (String, u16);

impl Endpoint {
    /// A endpoint that trusts the public certificate authorities, or only the certificates in the PEM text
    /// `authorities`.
    pub(in crate::store::redis) fn new(
        url: &RedisUrl,
        authorities: Option<Vec<u8>>,
    ) -> Result<Self, InvalidSetting> {
        let tls = authorities.map(|authorities| trusting(&authorities, url));
        if url.is_encrypted() {
            // Where another is installed already, that serves as well.
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
        // What cannot be used is told at the start, not with the first connection.
        endpoint
            .server_at(endpoint.server.clone())
            .map_err(bad_url)?;
        Ok(endpoint)
    }

    /// The database number that connections select.
    pub(in crate::store::redis) fn database(&self) -> i64 {
        self.server.redis_settings().db()
    }

    /// The server that, as far as can be told, is the primary now.
    pub(super) async fn primary(&self) -> Result<Server, StoreError> {
        let mut server = self.server.clone();
        if !self.sentinels.is_empty() {
            let (host, port) = self.ask_sentinels().await?;
            server = server
                .clone()
                .set_addr(relocated(server.addr(), host, port));
        }
        self.server_at(server).map_err(useless)
    }

    /// Asks all sentinels at once, because some may be as dead as the primary they should replace.
    /// The address that most of them name counts: a sentinel that is cut off from the others may
    /// name a primary that was replaced.
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

/// Whom to trust where `authorities`, a PEM text, names them; no public authority.
fn trusting(authorities: &[u8], url: &RedisUrl) -> Result<Arc<ClientConfig>, InvalidSetting> {
    let bad = |why: String| InvalidSetting::new("PRESENCE_REDIS_CA_FILE", why);
    if !url.is_encrypted() {
        return Err(bad(
            "it is for a REDIS_URL that begins with rediss".to_owned()
        ));
    }
    trusting_only(authorities).map(Arc::new).map_err(bad)
}

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

/// The same kind of address, elsewhere.
fn relocated(address: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
    match address {
        ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    }
}

fn useless(error: redis::RedisError) -> StoreError {
    StoreError::Failed(error.to_string())
}
