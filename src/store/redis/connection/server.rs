//! A server, and the sockets to it.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion,
    PushInfo, RedisError, RedisResult,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pushes::{Pushes, pushes};

/// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may take to open, from the lookup of the server to the last round trip before it serves.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a command may take. Together with the patience of a checkout, a call stays under the 2 s after which
/// clients are promised an answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1_200);

/// How many commands may wait to be written. The default of the redis crate, 50, makes callers wait for the writer
/// task under load (documentation of `set_pipeline_buffer_size`).
const PIPELINE_BUFFER: usize = 4_096;

/// The time limits and the buffer of a connection.
pub(super) fn limits() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_pipeline_buffer_size(PIPELINE_BUFFER)
}

/// The address of a server with its credentials and TLS configuration.
#[derive(Clone)]
pub(super) struct Server(Kind);

#[derive(Clone)]
enum Kind {
    /// Without TLS, or with TLS that trusts the public certificate authorities.
    Standard(Box<Client>),
    /// With a TLS configuration of its own. The client of the redis crate accepts only certificates of authorities, and
    /// only for the host to which it connects.
    Encrypted(Encrypted),
}

#[derive(Clone)]
struct Encrypted {
    tls: Arc<ClientConfig>,
    info: Box<ConnectionInfo>,
    /// The host in the certificate of the server.
    name: String,
}

impl Server {
    /// The server at `info`. With `tls`, its certificate must be one that `tls` trusts, for the host `name` if there is
    /// one, or else for the host to which the connection goes.
    pub(super) fn new(
        info: ConnectionInfo,
        tls: Option<Arc<ClientConfig>>,
        name: Option<&str>,
    ) -> RedisResult<Self> {
        let Some(tls) = tls else {
            return Ok(Self(Kind::Standard(Box::new(Client::open(tuned(info))?))));
        };
        let ConnectionAddr::TcpTls { host, .. } = info.addr() else {
            let why = "certificates are configured for a server without TLS";
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, why)));
        };
        let (name, info) = (name.unwrap_or(host).to_owned(), Box::new(info));
        Ok(Self(Kind::Encrypted(Encrypted { tls, info, name })))
    }

    /// The address to which connections go.
    pub(super) fn address(&self) -> &ConnectionAddr {
        match &self.0 {
            Kind::Standard(client) => client.get_connection_info().addr(),
            Kind::Encrypted(encrypted) => encrypted.info.addr(),
        }
    }

    /// Opens a socket for commands.
    pub(super) async fn commands(
        &self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let encrypted = match &self.0 {
            Kind::Standard(client) => {
                return client
                    .get_multiplexed_async_connection_with_config(config)
                    .await;
            }
            Kind::Encrypted(encrypted) => encrypted,
        };
        let stream = encrypted.open().await?;
        let settings = encrypted.info.redis_settings();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(settings, stream, config.clone()).await?;
        // The task ends when the last clone of the connection is dropped.
        tokio::spawn(driver);
        Ok(connection)
    }

    /// Opens a socket for subscriptions to any kind of channel, and the messages that arrive on it. Between its
    /// subscriptions it carries only `PING`.
    pub(super) async fn pushes(&self) -> RedisResult<(MultiplexedConnection, Pushes)> {
        let (receiving, pushes) = pushes();
        let config = limits().set_push_sender(move |push: PushInfo| {
            receiving.take(push);
            Ok::<_, std::convert::Infallible>(())
        });
        let socket = self.with_pushes()?.commands(&config).await?;
        Ok((socket, pushes))
    }

    /// The same server with RESP3, the only protocol with pushes.
    fn with_pushes(&self) -> RedisResult<Self> {
        let resp3 = |info: &ConnectionInfo| {
            let settings = info.redis_settings().clone();
            info.clone()
                .set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3))
        };
        let kind = match &self.0 {
            Kind::Standard(client) => {
                Kind::Standard(Box::new(Client::open(resp3(client.get_connection_info()))?))
            }
            Kind::Encrypted(encrypted) => Kind::Encrypted(Encrypted {
                info: Box::new(resp3(&encrypted.info)),
                ..encrypted.clone()
            }),
        };
        Ok(Self(kind))
    }

    /// Opens a socket for subscriptions.
    pub(super) async fn subscriptions(&self) -> RedisResult<PubSub> {
        match &self.0 {
            Kind::Standard(client) => client.get_async_pubsub().await,
            Kind::Encrypted(encrypted) => {
                let stream = encrypted.open().await?;
                PubSub::new(encrypted.info.redis_settings(), stream).await
            }
        }
    }
}

impl Encrypted {
    async fn open(&self) -> RedisResult<TlsStream<TcpStream>> {
        let ConnectionAddr::TcpTls { host, port, .. } = self.info.addr() else {
            let why = "certificates are configured for a server without TLS";
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, why)));
        };
        let server = ServerName::try_from(self.name.clone()).map_err(|_| {
            RedisError::from((ErrorKind::InvalidClientConfig, "the host name is invalid"))
        })?;
        let stream = TcpStream::connect((&**host, *port)).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&keepalive())?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        Ok(connector.connect(server, stream).await?)
    }
}

/// The redis crate enables neither keep-alive nor the user time-out, so a connection to a vanished server would stay
/// open for ever (redis-rs #404, #2277).
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
}

/// The redis crate leaves Nagle's algorithm on, which halves the throughput of a multiplexed connection
/// (redis-rs #2195).
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
