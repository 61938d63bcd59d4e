//! The way to the server that holds the data, looked up anew for every connection.

use std::collections::HashMap;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, RedisError, RedisResult,
    TlsCertificates,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use socket2::TcpKeepalive;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::{InvalidSetting, RedisUrl};
use crate::store::StoreError;

/// How long a sentinel may take to be reached and to answer.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(700);

/// The way to one Redis.
#[derive(Debug)]
pub(super) struct Route {
    server: ConnectionInfo,
    sentinels: Vec<Client>,
    primary: String,
    authorities: Option<Vec<u8>>,
}

type Address = (String, u16);

impl Route {
    /// A route that trusts the public certificate authorities, or only those in the PEM text
    /// `authorities`.
    pub(super) fn new(
        url: &RedisUrl,
        authorities: Option<Vec<u8>>,
    ) -> Result<Self, InvalidSetting> {
        if let Some(authorities) = &authorities {
            check_authorities(authorities, url)?;
        }
        if url.is_encrypted() {
            // Where another is installed already, that serves as well.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let mut route = Self {
            server: url.server().clone(),
            sentinels: Vec::new(),
            primary: String::new(),
            authorities,
        };
        if let Some(sentinels) = url.sentinels() {
            let clients = sentinels.addresses.iter().cloned();
            let clients = clients.map(|address| route.client_of(address));
            route.sentinels = clients.collect::<RedisResult<_>>().map_err(bad_url)?;
            route.primary = sentinels.primary.clone();
        }
        // What cannot be used is told at the start, not with the first connection.
        route.client_of(route.server.clone()).map_err(bad_url)?;
        Ok(route)
    }

    /// The database number that connections select.
    pub(super) fn database(&self) -> i64 {
        self.server.redis_settings().db()
    }

    /// A client of the server that, as far as can be told, is the primary now.
    pub(super) async fn client(&self) -> Result<Client, StoreError> {
        let mut server = self.server.clone();
        if !self.sentinels.is_empty() {
            let (host, port) = self.ask_sentinels().await?;
            server = server
                .clone()
                .set_addr(relocated(server.addr(), host, port));
        }
        self.client_of(server).map_err(useless)
    }

    /// Asks all sentinels at once, because some may be as dead as the primary they should replace.
    /// The address that most of them name counts: a sentinel that is cut off from the others may
    /// name a primary that was replaced.
    async fn ask_sentinels(&self) -> Result<Address, StoreError> {
        let mut asked = JoinSet::new();
        for sentinel in &self.sentinels {
            let (sentinel, primary) = (sentinel.clone(), self.primary.clone());
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

    fn client_of(&self, info: ConnectionInfo) -> RedisResult<Client> {
        let info = tuned(info);
        match &self.authorities {
            None => Client::open(info),
            Some(authorities) => {
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(authorities.clone()),
                };
                Client::build_with_tls(info, certificates)
            }
        }
    }
}

fn bad_url(error: RedisError) -> InvalidSetting {
    InvalidSetting::new("REDIS_URL", error.to_string())
}

fn check_authorities(pem: &[u8], url: &RedisUrl) -> Result<(), InvalidSetting> {
    let bad = |why: &str| Err(InvalidSetting::new("PRESENCE_REDIS_CA_FILE", why));
    if !url.is_encrypted() {
        return bad("it is for a REDIS_URL that begins with rediss");
    }
    // The client takes a file without certificates for one that trusts nobody.
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => bad("it holds no certificate"),
        Ok(_) => Ok(()),
        Err(error) => bad(&error.to_string()),
    }
}

async fn ask(sentinel: &Client, primary: &str) -> RedisResult<Option<Address>> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let mut connection = sentinel
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
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

/// Nagle's algorithm is on by default in this crate and costs a multiplexed connection half its
/// throughput (redis-rs #2195); keep-alive and user time-out are off, which leaves a connection to
/// a vanished server open for ever (redis-rs #404, #2277).
fn tuned(info: ConnectionInfo) -> ConnectionInfo {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2));
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(10));
    info.set_tcp_settings(settings)
}

fn useless(error: redis::RedisError) -> StoreError {
    StoreError::Failed(error.to_string())
}
