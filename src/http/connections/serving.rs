//! One connection: HTTP/1.1 or HTTP/2 until its client, its time, the shutdown or an event stream ends that.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::mem;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::response::Parts;
use axum::http::{Method, Request, Response, Version};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::body::{Body as _, Incoming};
use hyper::service::{Service as HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use super::Held;
use super::event_writer::EventWriter;
use super::newcomers::Newcomer;
use super::socket::{Home, Socket};
use crate::events::EventStream;
use crate::http::Front;
use crate::http::error::panicked;

/// Where streams are opened.
const EVENTS_PATH: &str = "/v1/events";

/// How long a client may take to send the head of its first request, from the accept on.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an HTTP/1 connection may be idle after the client took an answer, the head of the next request
/// included: this often it is looked whether there was another, and so often in vain. 75 s or a little more
/// is longer than the ping interval, so that a client can ping on one connection, and than the 60 s after
/// which proxies close theirs, so that they close first.
const SILENCE_STEP: Duration = Duration::from_secs(15);
const SILENT_STEPS: u32 = 5;

/// How long a client may take to send the rest of a head, once the service is to end.
const LAST_HEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// The largest request head, and the most that waits in this process for a reader that is slow.
const BUFFER_BYTES: usize = 64 * 1_024;

/// How often an HTTP/2 client is probed, and how long it may take to answer.
const H2_PROBE_INTERVAL: Duration = Duration::from_secs(20);
const H2_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams on one HTTP/2 connection. hyper's 200 are too few behind a proxy that multiplexes.
const H2_MAX_STREAMS: u32 = 10_000;

/// How every connection is spoken with. hyper's own time-out for heads is not used: it would arm a timer
/// for every request. Nor does hyper look during a call whether the client is still there, which takes a
/// read and a buffer for each: a call ends soon by itself, and whoever writes a stream looks.
pub(super) fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_buf_size(BUFFER_BYTES)
        .writev(false)
        .half_close(true)
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
    head: Mutex<Option<Head>>,
}

/// What a stream is answered with: the version of the request, and the head of the response.
type Head = (Version, Parts);

impl Seat {
    /// Takes the stream; the response that goes with it is to have no body.
    pub(in crate::http) fn take(&self, stream: EventStream) {
        *self.0.stream.lock() = Some(stream);
    }

    fn is_taken(&self) -> bool {
        self.0.stream.lock().is_some()
    }

    /// The connection's task, in which this is called, is to go on with this head and the stream.
    fn hand_over(&self, version: Version, head: Parts) {
        *self.0.head.lock() = Some((version, head));
    }

    fn is_handed_over(&self) -> bool {
        self.0.head.lock().is_some()
    }

    fn handed_over(&self) -> Option<(Head, EventStream)> {
        let head = self.0.head.lock().take()?;
        Some((head, self.0.stream.lock().take()?))
    }
}

/// What the client of an HTTP/1 connection, which asks one thing at a time, has asked so far.
#[derive(Debug)]
struct Talk {
    /// Counted, and wrapped around, by the connection's task alone.
    requests: AtomicU32,
    /// Whether the last of them has no answer yet. On HTTP/2 for ever: its clients are probed instead.
    in_progress: AtomicBool,
    /// Whether the last of them is for a stream that the connection may be given up for.
    is_for_a_stream: AtomicBool,
    home: Home,
}

impl Talk {
    fn over(home: &Home) -> Arc<Self> {
        Arc::new(Self {
            requests: AtomicU32::new(0),
            in_progress: AtomicBool::new(false),
            is_for_a_stream: AtomicBool::new(false),
            home: home.clone(),
        })
    }

    fn request(&self, is_for_a_stream: bool) {
        self.is_for_a_stream
            .store(is_for_a_stream, Ordering::Relaxed);
        let number = self.requests.load(Ordering::Relaxed).wrapping_add(1);
        self.requests.store(number, Ordering::Relaxed);
        self.in_progress.store(true, Ordering::Relaxed);
    }

    fn answer(&self, version: Version) {
        let still = version >= Version::HTTP_2;
        self.in_progress.store(still, Ordering::Relaxed);
    }

    /// How many requests there were, and whether the client has yet to get the answer to the last, or to
    /// take the rest of it. Whoever takes nothing at all is given up by the system.
    fn heard(&self) -> (u32, bool) {
        let requests = self.requests.load(Ordering::Relaxed);
        let answering = self.in_progress.load(Ordering::Relaxed) || self.home.is_blocked();
        (requests, answering)
    }

    fn has_begun(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    fn opens_a_stream(&self) -> bool {
        self.is_for_a_stream.load(Ordering::Relaxed) && self.in_progress.load(Ordering::Relaxed)
    }

    /// Resolves once nothing was asked for, or was being answered, for `steps` steps.
    async fn silence(&self, step: Duration, steps: u32) {
        let mut heard = self.heard();
        let mut silent = 0;
        while silent < steps {
            sleep(step).await;
            let before = mem::replace(&mut heard, self.heard());
            let (_, answering) = heard;
            silent = if before == heard && !answering {
                silent + 1
            } else {
                0
            };
        }
    }

    /// Resolves once the client should be cut off.
    async fn too_long_a_silence(&self) {
        sleep(FIRST_HEAD_TIMEOUT).await;
        if self.has_begun() {
            self.silence(SILENCE_STEP, SILENT_STEPS).await;
        }
    }
}

/// A connection and all that serves it.
pub(super) struct Serving {
    pub(super) stream: std::net::TcpStream,
    pub(super) front: Front,
    pub(super) protocols: auto::Builder<TokioExecutor>,
    /// Changes, or ends, when the service is to end.
    pub(super) drain: watch::Receiver<()>,
    /// Dropped once the first request is under way, or the stream that it asks for has begun.
    pub(super) newcomer: Option<Newcomer>,
    pub(super) held: Held,
}

/// What a connection is told from outside.
enum Signal {
    /// To end with the request it is in.
    Drain,
    /// To end, since its client has been silent for too long.
    Silence,
}

impl Serving {
    /// Serves until something ends it. An event stream is left to a task of its own.
    pub(super) async fn run(mut self) {
        // Whichever runtime accepted it, this one watches it from here on.
        let stream = match TcpStream::from_std(self.stream) {
            Ok(stream) => stream,
            Err(error) => {
                debug!(%error, "a connection could not be watched");
                return;
            }
        };
        let (socket, home) = Socket::new(stream);
        let seat = Seat::default();
        let talk = Talk::over(&home);
        let service = answering(self.front, &talk, &seat);
        {
            let connection = self
                .protocols
                .serve_connection(TokioIo::new(socket), service);
            let mut connection = pin!(connection);
            // These are polled only when they wake the task themselves, and not for every request.
            let mut signals = FuturesUnordered::new();
            signals.push(first_signal(&mut self.drain, &talk).boxed());
            poll_fn(|context| {
                loop {
                    if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                        if let Err(error) = ended {
                            debug!(%error, "a connection broke");
                        }
                        return Poll::Ready(());
                    }
                    if let Some(newcomer) = &self.newcomer
                        && talk.has_begun()
                    {
                        match talk.opens_a_stream() {
                            true => newcomer.opens_a_stream(),
                            false => self.newcomer = None,
                        }
                    }
                    if seat.is_handed_over() {
                        return Poll::Ready(());
                    }
                    match signals.poll_next_unpin(context) {
                        Poll::Ready(Some(Signal::Drain)) => {
                            connection.as_mut().graceful_shutdown();
                            signals.push(last_signal(&talk).boxed());
                        }
                        Poll::Ready(Some(Signal::Silence)) => {
                            debug!("a client that was silent was cut off");
                            return Poll::Ready(());
                        }
                        Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                    }
                }
            })
            .await;
        }
        if let Some(((version, head), stream)) = seat.handed_over()
            && let Some(socket) = home.returned()
        {
            // In a task of its own, because this one keeps the size it had for hyper.
            let writer = EventWriter::new(socket, version, &head, stream);
            let (held, mut newcomer) = (self.held, self.newcomer);
            tokio::spawn(async move {
                // Given up after the socket, which the writer holds.
                let _held = held;
                let mut writer = pin!(writer);
                poll_fn(|context| {
                    let written = writer.as_mut().poll(context);
                    drop(newcomer.take());
                    written
                })
                .await;
            });
        }
    }
}

async fn first_signal(drain: &mut watch::Receiver<()>, talk: &Talk) -> Signal {
    tokio::select! {
        // An error means that the other end is gone, and that is the sign.
        _ = drain.changed() => Signal::Drain,
        () = talk.too_long_a_silence() => Signal::Silence,
    }
}

/// The signal after that to drain: a client may send the rest of a head, and take the rest of an answer.
async fn last_signal(talk: &Talk) -> Signal {
    talk.silence(LAST_HEAD_TIMEOUT, 1).await;
    Signal::Silence
}

/// What answers the requests of a connection.
fn answering(
    front: Front,
    talk: &Arc<Talk>,
    seat: &Seat,
) -> impl HttpService<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> + use<> {
    let (talk, seat) = (Arc::clone(talk), seat.clone());
    service_fn(move |request: Request<Incoming>| {
        let version = request.version();
        let seat = may_carry_a_stream(&request, &talk.home).then(|| seat.clone());
        talk.request(seat.is_some());
        let mut request = request.map(|body| match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(body),
        });
        if let Some(seat) = &seat {
            request.extensions_mut().insert(seat.clone());
        }
        let answer = front.answer(request);
        let talk = Arc::clone(&talk);
        async move {
            let answer = AssertUnwindSafe(answer).catch_unwind().await;
            let response = answer.unwrap_or_else(panicked);
            match seat {
                Some(seat) if seat.is_taken() && response.status().is_success() => {
                    seat.hand_over(version, response.into_parts().0);
                    pending().await
                }
                _ => {
                    talk.answer(version);
                    Ok(response)
                }
            }
        }
    })
}

/// Whether the connection has nothing else to carry: not where HTTP/2 carries other streams on it,
/// nor where the client has yet to read the answer to an earlier request.
fn may_carry_a_stream(request: &Request<Incoming>, home: &Home) -> bool {
    request.uri().path() == EVENTS_PATH
        && request.version() < Version::HTTP_2
        && request.method() != Method::HEAD
        && !home.is_blocked()
}
