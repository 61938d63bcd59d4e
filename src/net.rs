//! Accepts connections, as many as may be open at once, and waits for them at the end.
//!
//! In place of `axum::serve`, whose connections have no time-outs (axum #2741).

mod activity;
mod answer;
mod event_writer;
pub(crate) mod fd_limit;
mod hang_up;
mod head;
mod http1;
mod http2;
mod http2_places;
mod idle;
mod in_flight;
mod partial_requests;
mod request_head;
mod request_limits;
mod seat;
mod short_response;
mod socket;
mod spread;
mod worker;
mod worker_threads;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use self::idle::IdleConnection;
pub(crate) use self::request_limits::RequestLimits;
pub(crate) use self::seat::Seat;
use self::spread::Spread;
use self::worker::{Busy, WorkerContext};
pub(crate) use self::worker_threads::WorkerThreads;
use crate::http::{Admission, Front};
use crate::telemetry::{Metrics, OpenConnection};

/// What the kernel may hold for a reader that is slow, and of a request that waits, in bytes; Linux doubles it. By
/// default that grows to several MiB, which count as the container's memory, and a stream would be minutes late
/// before its queue told.
const SEND_BUFFER_BYTES: usize = 32 * 1_024;
const RECEIVE_BUFFER_BYTES: usize = 32 * 1_024;

/// When a connection to a client that vanished is given up: data unacknowledged for so long, or
/// this long silent and then unanswered probes.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// How long to wait after the system would not give out another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often, at most, the log says that no connection can be accepted now.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What a connection holds until it ends.
#[derive(Debug)]
struct ConnectionGuard {
    _place: OwnedSemaphorePermit,
    _counted: OpenConnection,
}

/// Where connections are served, and how their requests are answered.
#[derive(Debug)]
pub(crate) struct Worker {
    runtime: Handle,
    front: Front,
}

impl Worker {
    /// Serves by tasks of `runtime`.
    pub(crate) fn new(runtime: Handle, front: Front) -> Self {
        Self { runtime, front }
    }
}

/// The connections of one listener.
pub(crate) struct Connections {
    listener: TcpListener,
    workers: Vec<(Handle, Arc<WorkerContext>)>,
    /// Dropped when all connections are to end.
    drain: watch::Sender<()>,
    limit: ConnectionLimit,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
}

/// How many connections may still be accepted.
struct ConnectionLimit {
    most: u32,
    free: Arc<Semaphore>,
    reported: Option<Instant>,
}

impl ConnectionLimit {
    /// A place, once there is one. Those that wait do so in the system's queue, not in this process.
    async fn take(&mut self) -> OwnedSemaphorePermit {
        if self.free.available_permits() == 0 {
            self.report("all are taken (PRESENCE_CONNECTIONS); more wait until one ends");
        }
        let place = Arc::clone(&self.free).acquire_owned().await;
        place.expect("it is never closed")
    }

    /// Tells of it, unless that was told a moment ago: it is so again for every connection.
    fn report(&mut self, why: &str) {
        let now = Instant::now();
        let told = self
            .reported
            .is_some_and(|last| now - last < REPORT_INTERVAL);
        if !told {
            self.reported = Some(now);
            warn!(why, "no connection can be accepted");
        }
    }
}

impl Connections {
    /// Serves at most `most` connections of `listener` at once by the `workers`, of whom there is at least one. Each
    /// may be idle for `keep_alive`.
    pub(crate) fn new(
        listener: TcpListener,
        workers: Vec<Worker>,
        most: u32,
        keep_alive: Duration,
        room: &Arc<RequestLimits>,
        admission: &Arc<Admission>,
        metrics: Arc<Metrics>,
    ) -> Self {
        if let Err(error) = tune(&listener) {
            warn!(%error, "connections cannot be tuned");
        }
        let (drain, draining) = watch::channel(());
        let host = |worker: Worker| {
            let host = WorkerContext {
                front: worker.front,
                room: Arc::clone(room),
                admission: Arc::clone(admission),
                keep_alive,
                http1: http1::protocol(),
                drain: draining.clone(),
                busy: Busy::default(),
            };
            (worker.runtime, Arc::new(host))
        };
        Self {
            listener,
            workers: workers.into_iter().map(host).collect(),
            drain,
            limit: ConnectionLimit {
                most,
                free: Arc::new(Semaphore::new(most as usize)),
                reported: None,
            },
            admission: Arc::clone(admission),
            metrics,
        }
    }

    /// Accepts until `stop` resolves.
    pub(crate) async fn accept_until(&mut self, stop: impl Future<Output = ()>) {
        let mut spread = Spread::over(self.workers.len());
        tokio::pin!(stop);
        loop {
            let accepted = async {
                let place = self.limit.take().await;
                (self.listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut stop => return,
            };
            let accepted = accepted.and_then(|(stream, _)| stream.into_std());
            match accepted {
                Ok(stream) => {
                    let held = ConnectionGuard {
                        _place: place,
                        _counted: self.metrics.connection(),
                    };
                    self.serve(stream, held, &mut spread);
                }
                Err(error) => {
                    self.limit.report(&error.to_string());
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Leaves the connection to a worker.
    fn serve(&self, stream: std::net::TcpStream, held: ConnectionGuard, spread: &mut Spread) {
        let loads = self.workers.iter().map(|(_, host)| host.busy.others());
        let Some((runtime, host)) = self.workers.get(spread.next(loads)) else {
            return;
        };
        let host = Arc::clone(host);
        runtime.spawn(async move {
            // Whichever runtime accepted it, this one watches it from here on.
            match TcpStream::from_std(stream) {
                Ok(stream) => drop(tokio::spawn(
                    IdleConnection::accepted(stream, host, held).run(),
                )),
                Err(error) => debug!(%error, "a connection could not be watched"),
            }
        });
    }

    /// Lets every connection finish the request it is in, and waits until all have.
    pub(crate) async fn finished(self) {
        drop(self.listener);
        drop(self.drain);
        self.admission.end();
        // Each holds its place until it has ended.
        let _ = self.limit.free.acquire_many(self.limit.most).await;
    }
}

/// Sets what every connection inherits from its listener, instead of asking the system for each.
fn tune(listener: &TcpListener) -> io::Result<()> {
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
mod tests;
