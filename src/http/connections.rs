//! Accepts connections and serves each until its client, its time or the shutdown ends it.
//!
//! In place of `axum::serve`, whose connections have no time-outs (axum #2741).

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tower_http::catch_panic::CatchPanic;
use tracing::{debug, warn};

use super::error::panicked;
use crate::events::HangUp;
use crate::telemetry::Metrics;

/// Where streams are opened.
const EVENTS_PATH: &str = "/v1/events";

/// How long a client may take to send the head of its first request, from the accept on.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be idle between two requests, the head of the second included, which
/// hyper does not tell apart. Longer than the ping interval, so that a client can ping on one
/// connection, and than the 60 s after which proxies close theirs, so that they close first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The largest request head, and the most that waits in this process for a reader that is slow.
const BUFFER_BYTES: usize = 64 * 1_024;

/// What the kernel may hold for a reader that is slow, in bytes; Linux doubles it. By default that
/// grows to several MiB, and a stream would be minutes late before its queue told.
const SEND_BUFFER_BYTES: usize = 128 * 1_024;

/// How often an HTTP/2 client is probed, and how long it may take to answer.
const H2_PROBE_INTERVAL: Duration = Duration::from_secs(20);
const H2_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams on one HTTP/2 connection. hyper's 200 are too few behind a proxy that multiplexes.
const H2_MAX_STREAMS: u32 = 10_000;

/// When a connection to a client that vanished is given up: data unacknowledged for so long, or
/// this long silent and then unanswered probes.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// How long to wait after the system would not give out another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often, at most, the log says that all connections are taken.
const FULL_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The connections of one listener.
pub(crate) struct Connections {
    listener: TcpListener,
    router: Router,
    graceful: GracefulShutdown,
    places: Places,
    metrics: Arc<Metrics>,
}

/// How many connections may still be accepted.
struct Places {
    free: Arc<Semaphore>,
    reported: Option<Instant>,
}

impl Places {
    /// A place, once there is one. Those that wait do so in the system's queue, not in this process.
    async fn take(&mut self) -> OwnedSemaphorePermit {
        if self.free.available_permits() == 0 {
            self.report();
        }
        let place = Arc::clone(&self.free).acquire_owned().await;
        place.expect("it is never closed")
    }

    fn report(&mut self) {
        let now = Instant::now();
        if self
            .reported
            .is_none_or(|last| now - last >= FULL_REPORT_INTERVAL)
        {
            self.reported = Some(now);
            warn!("all connections are taken (PRESENCE_CONNECTIONS); more wait until one ends");
        }
    }
}

impl Connections {
    /// Serves at most `most` connections of `listener` at once.
    pub(crate) fn new(
        listener: TcpListener,
        router: Router,
        most: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            listener,
            router,
            graceful: GracefulShutdown::new(),
            places: Places {
                free: Arc::new(Semaphore::new(most)),
                reported: None,
            },
            metrics,
        }
    }

    /// Accepts until `stop` resolves.
    pub(crate) async fn accept_until(&mut self, stop: impl Future<Output = ()>) {
        let protocols = protocols();
        tokio::pin!(stop);
        loop {
            let accepted = async {
                let place = self.places.take().await;
                (self.listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut stop => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let watcher = self.graceful.watcher();
                    let serving = serve(stream, self.router.clone(), protocols.clone(), watcher);
                    let counted = self.metrics.connection();
                    tokio::spawn(async move {
                        serving.await;
                        drop((place, counted));
                    });
                }
                Err(error) => {
                    warn!(%error, "no connection could be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Lets every connection finish the request it is in, and waits until all have.
    pub(crate) async fn finished(self) {
        drop(self.listener);
        self.graceful.shutdown().await;
    }
}

fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .writev(false)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(H2_PROBE_INTERVAL)
        .keep_alive_timeout(H2_PROBE_TIMEOUT)
        .max_concurrent_streams(H2_MAX_STREAMS);
    builder
}

async fn serve(
    stream: TcpStream,
    router: Router,
    protocols: auto::Builder<TokioExecutor>,
    watcher: Watcher,
) {
    if let Err(error) = tune(&stream) {
        debug!(%error, "a connection could not be tuned");
    }
    let service = CatchPanic::custom(router, panicked);
    let hang_up = HangUp::default();
    let offered = hang_up.clone();
    let begun = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&begun);
    let service = service_fn(move |mut request: Request<Incoming>| {
        begins.store(true, Ordering::Relaxed);
        offer(&offered, &mut request);
        TowerToHyperService::new(service.clone()).call(request)
    });
    let connection = protocols.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = watcher.watch(connection.into_owned()) => {
            if let Err(error) = served {
                debug!(%error, "a connection broke");
            }
        }
        () = hang_up.asked() => debug!("a reader that did not keep up was cut off"),
        () = never_began(&begun) => debug!("a client that sent no request was cut off"),
    }
}

/// Resolves if no request has begun in time.
async fn never_began(begun: &AtomicBool) {
    sleep(FIRST_HEAD_TIMEOUT).await;
    if begun.load(Ordering::Relaxed) {
        pending().await
    }
}

/// Lets a stream close its connection. Not where HTTP/2 carries other streams on it.
fn offer(hang_up: &HangUp, request: &mut Request<Incoming>) {
    if request.version() < Version::HTTP_2 && request.uri().path() == EVENTS_PATH {
        request.extensions_mut().insert(hang_up.clone());
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(())
}
