//! One connection: HTTP/1.1 or HTTP/2 until its client, its time, the shutdown or an event stream ends that.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::response::Parts;
use axum::http::{Method, Request, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;
use tower_http::catch_panic::CatchPanic;
use tracing::debug;

use super::Held;
use super::event_writer::EventWriter;
use super::socket::{Home, Socket};
use crate::events::EventStream;
use crate::http::error::panicked;

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

/// How often an HTTP/2 client is probed, and how long it may take to answer.
const H2_PROBE_INTERVAL: Duration = Duration::from_secs(20);
const H2_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams on one HTTP/2 connection. hyper's 200 are too few behind a proxy that multiplexes.
const H2_MAX_STREAMS: u32 = 10_000;

/// How every connection is spoken with.
pub(super) fn protocols() -> auto::Builder<TokioExecutor> {
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

/// Where the handler of a stream puts it, if the connection has nothing else to carry: it is then
/// taken from hyper, whose buffers and tasks are many times what an idle stream needs.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct Seat(Arc<Seated>);

#[derive(Debug, Default)]
struct Seated {
    stream: Mutex<Option<EventStream>>,
    head: Mutex<Option<(Version, Parts)>>,
    taken: Notify,
}

impl Seat {
    /// Takes the stream; the response that goes with it is to have no body.
    pub(in crate::http) fn take(&self, stream: EventStream) {
        *self.0.stream.lock() = Some(stream);
    }

    fn is_taken(&self) -> bool {
        self.0.stream.lock().is_some()
    }

    /// The connection's task is to go on with this head and the stream.
    fn hand_over(&self, version: Version, head: Parts) {
        *self.0.head.lock() = Some((version, head));
        self.0.taken.notify_one();
    }

    /// Resolves once a stream is handed over.
    async fn handed_over(&self) -> Option<(Version, Parts, EventStream)> {
        self.0.taken.notified().await;
        let (version, head) = self.0.head.lock().take()?;
        Some((version, head, self.0.stream.lock().take()?))
    }
}

/// A connection and all that serves it.
pub(super) struct Serving {
    pub(super) stream: TcpStream,
    pub(super) router: Router,
    pub(super) protocols: auto::Builder<TokioExecutor>,
    pub(super) watcher: Watcher,
    pub(super) held: Held,
}

impl Serving {
    /// Serves until something ends it. An event stream is left to a task of its own.
    pub(super) async fn run(self) {
        let (socket, home) = Socket::new(self.stream);
        let seat = Seat::default();
        let begun = Arc::new(AtomicBool::new(false));
        let service = CatchPanic::custom(self.router, panicked);
        let (begins, offered, carrier) = (Arc::clone(&begun), seat.clone(), home.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            begins.store(true, Ordering::Relaxed);
            let version = request.version();
            let seat = may_carry_a_stream(&request, &carrier).then(|| offered.clone());
            if let Some(seat) = &seat {
                request.extensions_mut().insert(seat.clone());
            }
            let answer = TowerToHyperService::new(service.clone()).call(request);
            async move {
                let response = answer.await?;
                match seat {
                    Some(seat) if seat.is_taken() && response.status().is_success() => {
                        seat.hand_over(version, response.into_parts().0);
                        pending().await
                    }
                    _ => Ok::<_, Infallible>(response),
                }
            }
        });
        let connection = self
            .protocols
            .serve_connection(TokioIo::new(socket), service);
        let handed_over = tokio::select! {
            served = self.watcher.watch(connection.into_owned()) => {
                if let Err(error) = served {
                    debug!(%error, "a connection broke");
                }
                None
            }
            handed_over = seat.handed_over() => handed_over,
            () = never_began(&begun) => {
                debug!("a client that sent no request was cut off");
                None
            }
        };
        if let Some((version, head, stream)) = handed_over
            && let Some(socket) = home.returned()
        {
            // In a task of its own, because this one keeps the size it had for hyper.
            let writer = EventWriter::new(socket, version, &head, stream);
            let held = self.held;
            tokio::spawn(async move {
                writer.await;
                drop(held);
            });
        }
    }
}

/// Resolves if no request has begun in time.
async fn never_began(begun: &AtomicBool) {
    sleep(FIRST_HEAD_TIMEOUT).await;
    if begun.load(Ordering::Relaxed) {
        pending().await
    }
}

/// Whether the connection has nothing else to carry: not where HTTP/2 carries other streams on it,
/// nor where the client has yet to read the answer to an earlier request.
fn may_carry_a_stream(request: &Request<Incoming>, home: &Home) -> bool {
    request.uri().path() == EVENTS_PATH
        && request.version() < Version::HTTP_2
        && request.method() != Method::HEAD
        && !home.is_blocked()
}
