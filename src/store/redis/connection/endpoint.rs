//! The address of the primary, looked up for every new main connection.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ConnectionAddr, ConnectionInfo, RedisError, RedisResult, Value};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::errors::{is_unknown_command, store_error};
use super::sentinels::{Address, Sentinels};
use super::server::{Server, limits};
use super::server_info::ServerInfo;
use crate::config::{InvalidSetting, RedisUrl};
use crate::store::error::StoreError;
use crate::store::redis::cluster::node_address::NodeAddress;
use crate::tls_roots::{trusting_only, trusting_public};

/// Why a server does not fit the URL.
const NO_CLUSTER: &str =
    "REDIS_URL begins with redis+cluster, but the server is not part of a cluster";
const IN_CLUSTER: &str = "the server is part of a cluster; REDIS_URL must begin with redis+cluster:// or \
                          rediss+cluster://";

/// Where the primary is: a fixed address, or sentinels that know the address; or where the nodes of a cluster are.
#[derive(Clone, Debug)]
pub(in crate::store::redis) struct Endpoint {
    server: ConnectionInfo,
    sentinels: Option<Sentinels>,
    /// The host of each seed of a cluster, and the seed.
    seeds: Vec<(String, Server)>,
    kind: Kind,
    tls: Option<Arc<ClientConfig>>,
    /// The host in the certificate of a node that is known by its bare address only.
    certified_name: Option<String>,
}

/// What the servers of an endpoint are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A server of its own, or a primary with its replicas.
    Single,
    /// A cluster.
    Cluster,
    /// One node of a cluster.
    Node,
}

impl Endpoint {
    /// The endpoint that `url` describes. TLS trusts only the certificates in the PEM text `authorities`; `None` means
    /// the public certificate authorities. Fails if the URL or the PEM text is invalid.
    pub(in crate::store::redis) fn new(
        url: &RedisUrl,
        authorities: Option<Vec<u8>>,
    ) -> Result<Self, InvalidSetting> {
        let tls = match authorities {
            Some(authorities) => Some(trusting(&authorities, url)?),
            None if url.is_encrypted() => {
                let public = trusting_public();
                let public =
                    public.map_err(|error| InvalidSetting::new("REDIS_URL", error.to_string()))?;
                Some(Arc::new(public))
            }
            None => None,
        };
        if url.is_encrypted() {
            // This fails if another provider is installed, which serves as well.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let mut endpoint = Self {
            server: url.server().clone(),
            sentinels: None,
            seeds: Vec::new(),
            kind: Kind::Single,
            tls,
            certified_name: None,
        };
        if let Some(sentinels) = url.sentinels() {
            let addresses = sentinels.addresses.iter().cloned();
            let servers = addresses.map(|address| endpoint.server_at(address));
            let servers = servers.collect::<RedisResult<_>>().map_err(bad_url)?;
            endpoint.sentinels = Some(Sentinels::new(servers, sentinels.primary.clone()));
        }
        for seed in url.seeds() {
            let host = host_of(seed.addr());
            let server = endpoint.server_at(seed.clone()).map_err(bad_url)?;
            endpoint.seeds.push((host, server));
            endpoint.kind = Kind::Cluster;
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

    /// Whether the servers are a cluster.
    pub(in crate::store::redis) fn is_cluster(&self) -> bool {
        self.kind == Kind::Cluster
    }

    /// The address of a node of a cluster.
    pub(super) fn node(&self) -> Option<String> {
        let is_node = self.kind == Kind::Node;
        is_node.then(|| shown(self.server.addr()))
    }

    /// The node of the cluster at `address`, with the same credentials.
    pub(in crate::store::redis) fn at(&self, address: &NodeAddress) -> Self {
        let to = (address.host.clone(), address.port);
        let is_bare = |host: &str| host.parse::<IpAddr>().is_ok();
        let seed = host_of(self.server.addr());
        let certified_name = is_bare(&address.host) && !is_bare(&seed);
        Self {
            certified_name: certified_name.then_some(seed),
            server: self
                .server
                .clone()
                .set_addr(relocated(self.server.addr().clone(), to)),
            seeds: Vec::new(),
            kind: Kind::Node,
            ..self.clone()
        }
    }

    /// Asks the seeds in turn, from `first` on, for `CLUSTER SLOTS`, each over a new connection and for at most
    /// `limit`, until an answer `is_enough`. Returns what `read` makes of each reply and the host that gave it. If
    /// all fail, the error names each seed.
    pub(in crate::store::redis) async fn ask_seeds<T>(
        &self,
        first: usize,
        limit: Duration,
        request: &Cmd,
        read: impl Fn(Value, &str) -> Result<T, StoreError>,
        is_enough: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, StoreError> {
        let (mut answers, mut failures) = (Vec::new(), BTreeMap::new());
        for turn in 0..self.seeds.len() {
            let place = (first + turn) % self.seeds.len();
            let (host, seed) = &self.seeds[place];
            let answer = timeout(limit, ask_seed(seed, request)).await;
            let answer = answer.unwrap_or_else(|_| Err(StoreError::too_slow()));
            match answer.and_then(|answer| read(answer, host)) {
                Ok(answer) => {
                    let is_last = is_enough(&answer);
                    answers.push(answer);
                    if is_last {
                        break;
                    }
                }
                Err(error) => {
                    failures.insert(place, (shown(seed.address()), error));
                }
            }
        }
        if answers.is_empty() {
            return Err(no_seed(failures.into_values()));
        }
        Ok(answers)
    }

    /// Fails if the server is a part of a cluster and the URL does not say so.
    pub(super) fn check(&self, info: &ServerInfo) -> Result<(), StoreError> {
        if self.kind == Kind::Single && info.is_cluster_node() {
            return Err(StoreError::Unfit(IN_CLUSTER.to_owned()));
        }
        Ok(())
    }

    /// The server that is the primary now. Fails if no sentinel names one.
    pub(super) async fn primary(&self) -> Result<Server, StoreError> {
        let mut server = self.server.clone();
        if let Some(sentinels) = &self.sentinels {
            let primary = relocated(server.addr().clone(), sentinels.primary().await?);
            server = server.set_addr(primary);
        }
        self.server_at(server)
            .map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// Resolves when most sentinels name another primary than `server`; without sentinels never.
    pub(super) async fn replaced(&self, server: &Server) {
        match &self.sentinels {
            Some(sentinels) => sentinels.have_replaced(server.address()).await,
            None => std::future::pending().await,
        }
    }

    fn server_at(&self, info: ConnectionInfo) -> RedisResult<Server> {
        Server::new(info, self.tls.clone(), self.certified_name.as_deref())
    }
}

/// The error if no seed answers. A seed that the settings do not fit is what the operator has to know; otherwise the
/// text has the cause of each, in the order of the URL, so that it does not change from one attempt to the next.
fn no_seed(failures: impl Iterator<Item = (String, StoreError)>) -> StoreError {
    let mut causes = Vec::new();
    for (seed, error) in failures {
        match error {
            StoreError::Unfit(_) | StoreError::Forbidden(_) => return error,
            _ => causes.push(format!("{seed}: {}", error.cause())),
        }
    }
    StoreError::Unreachable(causes.join("; "))
}

/// The address as `host:port`.
fn shown(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            let (host, port) = (host.clone(), *port);
            NodeAddress { host, port }.to_string()
        }
        _ => String::new(),
    }
}

async fn ask_seed(seed: &Server, request: &Cmd) -> Result<Value, StoreError> {
    let (mut connection, _) = seed.commands(&limits()).await.map_err(store_error)?;
    let answer = request.query_async(&mut connection).await;
    answer.map_err(|error: RedisError| {
        let detail = error.detail().unwrap_or_default();
        if detail.contains("cluster support disabled") || is_unknown_command(&error) {
            return StoreError::Unfit(NO_CLUSTER.to_owned());
        }
        store_error(error)
    })
}

fn host_of(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
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

/// The same kind of address with another host and port.
fn relocated(mut address: ConnectionAddr, to: Address) -> ConnectionAddr {
    if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } =
        &mut address
    {
        (*host, *port) = to;
    }
    address
}
