//! Accepts connections and assigns each of them to a worker.
//!
//! `axum::serve` is not used because its connections have no timeouts (axum #2741).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::connection_limit::{ConnectionGuard, ConnectionLimit};
use super::request_limits::RequestLimits;
use super::serve::serve;
use super::spread::Spread;
use super::worker::{Connection, Worker, WorkerContext};
use crate::http::Admission;
use crate::memory_budget::MemoryBudget;
use crate::telemetry::Metrics;

/// The buffers of the kernel for each connection, in bytes. Linux doubles these values. By default a buffer grows to
/// several MiB, which count as memory of the container, and a slow stream would be minutes late before its queue is
/// full.
const SEND_BUFFER_BYTES: usize = 32 * 1_024;
const RECEIVE_BUFFER_BYTES: usize = 32 * 1_024;

/// How long sent data may stay unacknowledged before the kernel closes the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The silence after which the kernel probes the client.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// The pause after a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a new connection waits for the room of an idle connection, before another worker is asked.
const ROOM_INTERVAL: Duration = Duration::from_millis(10);

/// The most connections that are accepted once the drain has begun: all that the kernel can have queued. More than that
/// have arrived since.
const MAX_QUEUED: usize = 4_096;

/// The limits of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerLimits {
    /// The most open connections.
    pub(crate) connections: u32,
    /// How long a connection may be idle.
    pub(crate) keep_alive: Duration,
    /// The memory that bounds requests and responses.
    pub(crate) memory: MemoryBudget,
}

/// A listener and its connections.
pub(crate) struct Listener {
    socket: TcpListener,
    workers: Vec<(Handle, Arc<WorkerContext>)>,
    limit: ConnectionLimit,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    drain: CancellationToken,
}

impl Listener {
    /// Serves the connections of `socket` on `workers`, of which there must be at least one, until `drain` is
    /// cancelled.
    pub(crate) fn new(
        socket: TcpListener,
        workers: Vec<Worker>,
        limits: ListenerLimits,
        admission: Arc<Admission>,
        metrics: Arc<Metrics>,
        drain: CancellationToken,
    ) -> Self {
        if let Err(error) = set_options(&socket) {
            warn!(%error, "cannot set the socket options of connections");
        }
        let request_limits = RequestLimits::new(limits.memory);
        let context = |worker: Worker| {
            let context = WorkerContext {
                front: worker.front,
                limits: Arc::clone(&request_limits),
                admission: Arc::clone(&admission),
                keep_alive: limits.keep_alive,
                // A token per worker, so that the connections of two workers do not contend for one lock.
                drain: drain.child_token(),
                active: TaskTracker::new(),
                make_room: Notify::new(),
            };
            (worker.runtime, Arc::new(context))
        };
        Self {
            socket,
            workers: workers.into_iter().map(context).collect(),
            limit: ConnectionLimit::new(limits.connections),
            admission,
            metrics,
            drain,
        }
    }

    /// Accepts connections until the drain begins, then waits until all connections are closed.
    pub(crate) async fn run(mut self) {
        let mut spread = Spread::over(self.workers.len());
        let drain = self.drain.clone();
        while let Some(accepted) = drain.run_until_cancelled(self.accept()).await {
            match accepted {
                Ok((stream, guard)) => self.assign(stream, guard, &mut spread),
                Err(error) => {
                    self.limit.warn(&error.to_string());
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.admission.end();
        self.accept_queued(&mut spread);
        drop(self.socket);
        self.limit.all_closed().await;
    }

    async fn accept(&mut self) -> io::Result<(std::net::TcpStream, ConnectionGuard)> {
        let (stream, _) = self.socket.accept().await?;
        let permit = self.permit().await;
        Ok((stream.into_std()?, self.guard(permit)))
    }

    /// Waits until one more connection may be open. While the limit is reached, the connections that have been idle for
    /// longest make room, and next those that wait for their clients.
    async fn permit(&mut self) -> OwnedSemaphorePermit {
        if let Some(permit) = self.limit.try_acquire() {
            return permit;
        }
        self.limit
            .warn("the connection limit is reached (PRESENCE_CONNECTIONS)");
        loop {
            self.workers.rotate_left(1);
            if let Some((_, worker)) = self.workers.first() {
                worker.make_room.notify_one();
            }
            if let Ok(permit) = timeout(ROOM_INTERVAL, self.limit.acquire()).await {
                return permit;
            }
            if let Some((_, worker)) = self.workers.first() {
                // All workers share the limits.
                worker.limits.free_places();
            }
        }
    }

    /// Accepts the connections that the kernel has queued. Otherwise it would reset them, although their requests have
    /// arrived.
    fn accept_queued(&self, spread: &mut Spread) {
        for _ in 0..MAX_QUEUED {
            let Some(permit) = self.limit.try_acquire() else {
                return;
            };
            let Ok((socket, _)) = SockRef::from(&self.socket).accept() else {
                return;
            };
            let guard = self.guard(permit);
            match socket.set_nonblocking(true) {
                Ok(()) => self.assign(socket.into(), guard, spread),
                Err(error) => debug!(%error, "cannot set the mode of a connection"),
            }
        }
    }

    fn guard(&self, permit: OwnedSemaphorePermit) -> ConnectionGuard {
        ConnectionGuard {
            _permit: permit,
            _counted: self.metrics.connection(),
        }
    }

    fn assign(&self, stream: std::net::TcpStream, guard: ConnectionGuard, spread: &mut Spread) {
        let loads = self.workers.iter().map(|(_, worker)| worker.active.len());
        let Some((runtime, worker)) = self.workers.get(spread.next(loads)) else {
            return;
        };
        let worker = Arc::clone(worker);
        runtime.spawn(async move {
            // Registers the socket with the runtime of the worker.
            match TcpStream::from_std(stream) {
                Ok(stream) => {
                    let connection = Connection {
                        stream,
                        worker,
                        guard,
                    };
                    tokio::spawn(serve(connection));
                }
                Err(error) => debug!(%error, "cannot register a connection"),
            }
        });
    }
}

/// Sets the options that every accepted connection inherits, which saves system calls for each connection.
fn set_options(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_inherit_the_socket_options_of_their_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        set_options(&listener).expect("valid options");
        let address = listener.local_addr().expect("an address");
        let _client = TcpStream::connect(address).await.expect("a connection");
        let (accepted, _) = listener.accept().await.expect("a connection");
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().expect("an option"));
        assert!(socket.keepalive().expect("an option"));
        let of_listener = SockRef::from(&listener).send_buffer_size();
        let sent = socket.send_buffer_size().expect("an option");
        assert_eq!(sent, of_listener.expect("an option"));
        #[cfg(target_os = "linux")]
        {
            let timeout = socket.tcp_user_timeout().expect("an option");
            assert_eq!(timeout, Some(TCP_USER_TIMEOUT));
        }
    }
}
