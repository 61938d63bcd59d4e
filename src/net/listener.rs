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
use super::stream_turns::StreamTurns;
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

/// How long the connections that are in the queue when the drain begins wait for places, all together. Idle connections
/// give up their places after 100 ms of the drain.
const LAST_PLACES_TIMEOUT: Duration = Duration::from_millis(200);

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
    /// Which worker gets the next connection.
    spread: Spread,
    /// The number of the worker that was last asked to make room.
    asked: usize,
    /// A connection that waits for a place.
    accepted: Option<std::net::TcpStream>,
    limit: ConnectionLimit,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    drain: CancellationToken,
}

impl Listener {
    /// The length of the accept queue, as far as the kernel allows (`net.core.somaxconn`). When thousands of streams
    /// reconnect at once, a client beyond this limit retries after a second. At most this many connections are accepted
    /// after the drain has begun.
    pub(crate) const BACKLOG: u32 = 8_192;

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
            let (turns, giving_turns) = StreamTurns::new();
            worker.runtime.spawn(giving_turns);
            let context = WorkerContext {
                front: worker.front,
                limits: Arc::clone(&request_limits),
                admission: Arc::clone(&admission),
                keep_alive: limits.keep_alive,
                // A token per worker, so that the connections of two workers do not contend for one lock.
                drain: drain.child_token(),
                active: TaskTracker::new(),
                turns,
                make_room: Notify::new(),
            };
            (worker.runtime, Arc::new(context))
        };
        Self {
            socket,
            spread: Spread::over(workers.len()),
            workers: workers.into_iter().map(context).collect(),
            asked: 0,
            accepted: None,
            limit: ConnectionLimit::new(limits.connections),
            admission,
            metrics,
            drain,
        }
    }

    /// Accepts connections until the drain begins, then waits until all connections are closed.
    pub(crate) async fn run(mut self) {
        let drain = self.drain.clone();
        while let Some(accepted) = drain.run_until_cancelled(self.accept()).await {
            match accepted {
                Ok(permit) => self.assign(permit),
                Err(error) => {
                    self.limit.warn(&error.to_string());
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.admission.end();
        let queued = timeout(LAST_PLACES_TIMEOUT, self.accept_queued()).await;
        if queued.is_err() {
            debug!("the last connections found no place");
        }
        drop((self.socket, self.accepted));
        self.limit.all_closed().await;
    }

    /// Accepts a connection, unless one waits already, and waits for its place. Nothing is lost if this is cancelled:
    /// the connection stays in `accepted`.
    async fn accept(&mut self) -> io::Result<OwnedSemaphorePermit> {
        if self.accepted.is_none() {
            let (stream, _) = self.socket.accept().await?;
            self.accepted = Some(stream.into_std()?);
        }
        Ok(self.permit().await)
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
            self.asked = (self.asked + 1) % self.workers.len().max(1);
            let asked = self.workers.get(self.asked);
            if let Some((_, worker)) = asked {
                worker.make_room.notify_one();
            }
            if let Ok(permit) = timeout(ROOM_INTERVAL, self.limit.acquire()).await {
                return permit;
            }
            if let Some((_, worker)) = asked {
                // All workers share the limits.
                worker.limits.free_places();
            }
        }
    }

    /// Serves the connection that waits for a place, and accepts those that the kernel has queued. Otherwise the kernel
    /// would reset them, although their requests have arrived.
    async fn accept_queued(&mut self) {
        for _ in 0..Self::BACKLOG {
            if self.accepted.is_none() {
                let Ok((socket, _)) = SockRef::from(&self.socket).accept() else {
                    return;
                };
                if let Err(error) = socket.set_nonblocking(true) {
                    debug!(%error, "cannot set the mode of a connection");
                    continue;
                }
                self.accepted = Some(socket.into());
            }
            let permit = self.permit().await;
            self.assign(permit);
        }
    }

    fn guard(&self, permit: OwnedSemaphorePermit) -> ConnectionGuard {
        ConnectionGuard {
            _permit: permit,
            _counted: self.metrics.connection(),
        }
    }

    /// Assigns the accepted connection to a worker.
    fn assign(&mut self, permit: OwnedSemaphorePermit) {
        let loads = self.workers.iter().map(|(_, worker)| worker.active.len());
        let next = self.workers.get(self.spread.next(loads));
        let (Some((runtime, worker)), Some(stream)) = (next, self.accepted.take()) else {
            return;
        };
        let guard = self.guard(permit);
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
