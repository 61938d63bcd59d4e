//! One server, and how connections to it are opened.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError,
    RedisResult,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long what was sent may stay without an acknowledgement.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// A server to connect to.
#[derive(Clone)]
pub(super) struct Server(Kind);

#[derive(Clone)]
enum Kind {
    /// Without encryption, or with a certificate of a public authority.
    Usual(Box<Client>),
    /// With a certificate that the operator named, or one of an authority that the operator named. The client of the
    /// crate takes authorities alone.
    Named(Arc<ClientConfig>, Box<ConnectionInfo>),
}

impl Server {
    /// The server that `info` leads to. With `tls` only a certificate counts that this trusts.
    pub(super) fn new(info: ConnectionInfo, tls: Option<Arc<ClientConfig>>) -> RedisResult<Self> {
        match tls {
            None => Ok(Self(Kind::Usual(Box::new(Client::open(tuned(info))?)))),
            Some(tls) => Ok(Self(Kind::Named(tls, Box::new(info)))),
        }
    }

    /// A connection for commands.
    pub(super) async fn commands(
        &self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let (tls, info) = match &self.0 {
            Kind::Usual(client) => {
                return client
                    .get_multiplexed_async_connection_with_config(config)
                    .await;
            }
            Kind::Named(tls, info) => (tls, info),
        };
        let stream = encrypted(tls, info).await?;
        let settings = info.redis_settings();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(settings, stream, config.clone()).await?;
        // It ends with the last clone of the connection.
        tokio::spawn(driver);
        Ok(connection)
    }

    /// A connection for subscriptions.
    pub(super) async fn subscriptions(&self) -> RedisResult<PubSub> {
        match &self.0 {
            Kind::Usual(client) => client.get_async_pubsub().await,
            Kind::Named(tls, info) => {
                let stream = encrypted(tls, info).await?;
                PubSub::new(info.redis_settings(), stream).await
            }
        }
    }
}

async fn encrypted(
    tls: &Arc<ClientConfig>,
    info: &ConnectionInfo,
) -> RedisResult<TlsStream<TcpStream>> {
    let ConnectionAddr::TcpTls { host, port, .. } = info.addr() else {
        let why = "certificates are named for a server without encryption";
        return Err(RedisError::from((ErrorKind::InvalidClientConfig, why)));
    };
    let server = ServerName::try_from(host.clone()).map_err(|_| {
        RedisError::from((ErrorKind::InvalidClientConfig, "the host has no valid name"))
    })?;
    let stream = TcpStream::connect((&**host, *port)).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive())?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let connector = TlsConnector::from(Arc::clone(tls));
    Ok(connector.connect(server, stream).await?)
}

/// Keep-alive and user time-out are off in the crate, which leaves a connection to a vanished server open for ever
/// (redis-rs #404, #2277).
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
}

/// Nagle's algorithm is on by default in this crate and costs a multiplexed connection half its
/// throughput (redis-rs #2195).
fn tuned(info: ConnectionInfo) -> ConnectionInfo {
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive());
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(USER_TIMEOUT);
    info.set_tcp_settings(settings)
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}
