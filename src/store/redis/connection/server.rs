//! A server, and the sockets to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion, PushInfo,
    RedisError, RedisResult,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pushes::{Pushes, pushes};
use super::watched_stream::{Watch, WatchedStream};

/// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`).
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may take to open, from the lookup of the server to the last round trip before it serves.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the TLS handshake of a connection may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Why no connection opens, if the server may expect TLS or no TLS.
const CLOSED_AT_ONCE: &str = "the server closed the connection before it answered; a server with TLS needs a URL \
                              with rediss";
const NO_HANDSHAKE: &str = "the server does not answer with TLS, which a URL with rediss requires";

/// How long a command may take. Together with the time-out of a checkout, a call stays under the 2 s after which
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
pub(super) struct Server {
    info: Box<ConnectionInfo>,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    /// The host in the certificate of the server.
    name: String,
}

impl Server {
    /// The server at `info`. If its address is one with TLS, its certificate must be one that `tls` trusts, for the
    /// host `name` if there is one, or else for the host to which the connection goes.
    pub(super) fn new(
        info: ConnectionInfo,
        tls: Option<Arc<ClientConfig>>,
        name: Option<&str>,
    ) -> RedisResult<Self> {
        let tls = match (info.addr(), tls) {
            (ConnectionAddr::TcpTls { host, .. }, Some(config)) => Some(Tls {
                config,
                name: name.unwrap_or(host).to_owned(),
            }),
            (ConnectionAddr::Tcp(..), _) => None,
            _ => {
                let why = "the address is not one of a server with or without TLS";
                return Err(RedisError::from((ErrorKind::InvalidClientConfig, why)));
            }
        };
        let info = Box::new(info);
        Ok(Self { info, tls })
    }

    /// The address to which connections go.
    pub(super) fn address(&self) -> &ConnectionAddr {
        self.info.addr()
    }

    /// Opens a socket for commands.
    pub(super) async fn commands(
        &self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<(MultiplexedConnection, Arc<Watch>)> {
        let settings = self.info.redis_settings();
        let config = config.clone();
        let (stream, watch) = self.open().await?;
        let connection = match &self.tls {
            None => {
                let opened = MultiplexedConnection::new_with_config(settings, stream, config);
                let (connection, driver) = opened.await.map_err(closed_at_once)?;
                // The task ends when the last clone of the connection is dropped.
                tokio::spawn(driver);
                connection
            }
            Some(tls) => {
                let stream = tls.encrypt(stream).await?;
                let opened = MultiplexedConnection::new_with_config(settings, stream, config);
                let (connection, driver) = opened.await?;
                tokio::spawn(driver);
                connection
            }
        };
        Ok((connection, watch))
    }

    /// Opens a socket for subscriptions to any kind of channel, and the messages that arrive on it. Between its
    /// subscriptions it carries only `PING`.
    pub(super) async fn pushes(&self) -> RedisResult<(MultiplexedConnection, Pushes)> {
        let (receiving, pushes) = pushes();
        let config = limits().set_push_sender(move |push: PushInfo| {
            receiving.take(push);
            Ok::<_, std::convert::Infallible>(())
        });
        let (socket, _) = self.with_pushes().commands(&config).await?;
        Ok((socket, pushes))
    }

    /// The same server with RESP3, the only protocol with pushes.
    fn with_pushes(&self) -> Self {
        let settings = self.info.redis_settings().clone();
        let settings = settings.set_protocol(ProtocolVersion::RESP3);
        Self {
            info: Box::new((*self.info).clone().set_redis_settings(settings)),
            tls: self.tls.clone(),
        }
    }

    /// Opens a socket for subscriptions.
    pub(super) async fn subscriptions(&self) -> RedisResult<PubSub> {
        let settings = self.info.redis_settings();
        let (stream, _) = self.open().await?;
        match &self.tls {
            None => PubSub::new(settings, stream).await,
            Some(tls) => PubSub::new(settings, tls.encrypt(stream).await?).await,
        }
    }

    /// Opens a TCP connection to the first address of the server that answers.
    async fn open(&self) -> RedisResult<(WatchedStream, Arc<Watch>)> {
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) =
            self.info.addr()
        else {
            let why = "the address is not one of TCP";
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, why)));
        };
        let addresses = lookup_host((&**host, *port)).await?;
        let attempts: Vec<_> = addresses
            .map(|address| Box::pin(TcpStream::connect(address)))
            .collect();
        if attempts.is_empty() {
            let why = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
            return Err(why.into());
        }
        let (stream, _) = select_ok(attempts).await?;
        // The redis crate would leave Nagle's algorithm on, which halves the throughput of a multiplexed connection
        // (redis-rs #2195), and keep-alive and the user time-out off, so that a connection to a vanished server would
        // stay open for ever (redis-rs #404, #2277).
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&keepalive())?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        Ok(WatchedStream::new(stream))
    }
}

impl Tls {
    async fn encrypt(&self, stream: WatchedStream) -> RedisResult<TlsStream<WatchedStream>> {
        let server = ServerName::try_from(self.name.clone()).map_err(|_| {
            RedisError::from((ErrorKind::InvalidClientConfig, "the host name is invalid"))
        })?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let handshake = timeout(HANDSHAKE_TIMEOUT, connector.connect(server, stream)).await;
        let too_slow = |_| io::Error::new(io::ErrorKind::TimedOut, NO_HANDSHAKE);
        Ok(handshake.map_err(too_slow)??)
    }
}

/// Explains a connection without TLS that closed instead of the first answer.
fn closed_at_once(error: RedisError) -> RedisError {
    if error.is_connection_dropped() {
        return io::Error::new(io::ErrorKind::ConnectionReset, CLOSED_AT_ONCE).into();
    }
    error
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}
