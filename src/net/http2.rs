//! An HTTP/2 connection.

pub(super) mod heads;

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Body as _, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::{Service as HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::debug;

use self::heads::{MAX_HEAD_BYTES, MAX_REFUSED_HEAD_BYTES};
use super::activity::RequestActivity;
use super::request_body::limited;
use super::response::{Exchange, Progress, Responding, ResponseBody};
use super::short_response::write_and_close;
use super::socket::Socket;
use super::time_limits::{self, Verdict};
use super::worker::{Connection, WorkerContext};
use crate::http::error::Error;
use crate::http::refused_stream::wants_stream;

/// How often a client is probed with a PING, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The most requests at the same time: the least value that RFC 9113, section 6.5.2, recommends. A proxy that needs
/// more opens another connection. Each request takes memory until its response is read.
const MAX_REQUESTS: u32 = 100;

/// The flow control windows: the bytes of bodies that a client may send before they are read.
const STREAM_WINDOW: u32 = 64 * 1_024;
const CONNECTION_WINDOW: u32 = 128 * 1_024;

/// The largest part of a response that is given to hyper at once, in bytes.
const PART_BYTES: usize = 4 * 1_024;

/// The memory of a request without its bodies, in bytes: a small head, a part of the response in h2, and state.
const REQUEST_BYTES: usize = PART_BYTES + 4 * 1_024;

/// A head of at most this size is part of [`REQUEST_BYTES`].
const SMALL_HEAD_BYTES: usize = 2 * 1_024;

/// Empty SETTINGS, and a GOAWAY that tells that no request was handled (RFC 9113, sections 6.5 and 6.8).
const GOAWAY_UNSERVED: [u8; 26] = [
    0, 0, 0, 4, 0, 0, 0, 0, 0, // SETTINGS
    0, 0, 8, 7, 0, 0, 0, 0, 0, // GOAWAY
    0, 0, 0, 0, 0, 0, 0, 0, // the last stream, and no error
];

/// A GOAWAY with ENHANCE_YOUR_CALM. It leaves open which requests were handled (RFC 9113, sections 6.8 and 7).
const GOAWAY_FLOODED: [u8; 17] = [
    0, 0, 8, 7, 0, 0, 0, 0, 0, // GOAWAY
    0x7f, 0xff, 0xff, 0xff, // the last stream
    0, 0, 0, 0xb, // ENHANCE_YOUR_CALM
];

/// How long a connection waits for a permit while all permits are taken.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an idle connection may take to end: after its keep-alive time or in a drain, and if others need its permit.
const END_GRACE: Duration = Duration::from_secs(10);
const EVICTION_GRACE: Duration = Duration::from_millis(250);

/// How long a client may take for a part of a response. An idle stream sends a keep-alive every 12 s.
const PART_TIMEOUT: Duration = Duration::from_secs(30);
const STREAM_PART_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves a connection until it ends.
pub(super) async fn serve(connection: Connection, early: Bytes, active: TaskTrackerToken) {
    let Connection {
        stream,
        worker,
        guard,
    } = connection;
    // Dropped after the socket.
    let _guards = (guard, active);
    let permit = timeout(PERMIT_TIMEOUT, worker.limits.http2.acquire(true)).await;
    let Ok(permit) = permit else {
        debug!("there is no permit for another HTTP/2 connection");
        write_and_close(stream, &GOAWAY_UNSERVED).await;
        return;
    };
    let (sender, mut flooded) = oneshot::channel();
    let socket = Socket::http2(stream, early, &permit.activity, &worker.limits, sender);
    drive(socket, &worker, &permit.activity).await;
    if let Ok(stream) = flooded.try_recv()
        && let Ok(stream) = TcpStream::from_std(stream)
    {
        write_and_close(stream, &GOAWAY_FLOODED).await;
    }
}

async fn drive(socket: Socket, worker: &Arc<WorkerContext>, activity: &Arc<RequestActivity>) {
    let tasks = ResponseTasks::default();
    let service = service(worker, activity, &tasks);
    let http2 = protocol(tasks).serve_connection(TokioIo::new(socket), service);
    let mut http2 = pin!(http2);
    let is_evicted = tokio::select! {
        biased;
        ended = &mut http2 => return log(ended),
        () = worker.drain.cancelled() => false,
        () = activity.evicted() => true,
        verdict = time_limits::http2(activity, worker.keep_alive) => match verdict {
            Verdict::TooSlow => return debug!("a client was too slow and was cut off"),
            Verdict::Idle | Verdict::Drain => false,
        },
    };
    http2.as_mut().graceful_shutdown();
    let grace = if is_evicted {
        EVICTION_GRACE
    } else {
        END_GRACE
    };
    let eviction = async {
        if !is_evicted {
            activity.evicted().await;
        }
        time_limits::http2_eviction(activity, EVICTION_GRACE).await;
    };
    tokio::select! {
        biased;
        ended = &mut http2 => log(ended),
        () = eviction => debug!("an evicted connection did not end in time"),
        () = time_limits::http2_end(activity, grace) => debug!("a connection did not end in time"),
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}

fn protocol(tasks: ResponseTasks) -> http2::Builder<ResponseTasks> {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_REQUESTS)
        .max_header_list_size(MAX_REFUSED_HEAD_BYTES as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(PART_BYTES);
    builder
}

/// The service that answers the requests of a connection.
fn service(
    worker: &Arc<WorkerContext>,
    activity: &Arc<RequestActivity>,
    tasks: &ResponseTasks,
) -> impl HttpService<
    Request<Incoming>,
    Response = Response<ResponseBody>,
    Error = Infallible,
    Future = Responding,
> + use<> {
    let worker = Arc::clone(worker);
    let activity = Arc::clone(activity);
    let tasks = tasks.clone();
    service_fn(move |request: Request<Incoming>| {
        let active = activity.begin_request();
        let progress = tasks.next();
        let head_bytes = head_bytes(&request);
        let is_too_large = head_bytes > MAX_HEAD_BYTES;
        let kept = if is_too_large {
            0
        } else {
            kept_bytes(head_bytes, request.body())
        };
        let share = worker.limits.large(REQUEST_BYTES + kept);
        let wants_stream = wants_stream(request.uri(), request.headers());
        let (head, body) = request.into_parts();
        let (body, memory) = limited(body, 0, &worker.limits, &activity);
        let response = if share.is_none() {
            ready(worker.front.refusal(Error::Overloaded, wants_stream)).boxed()
        } else if is_too_large {
            ready(worker.front.refusal(Error::HeadTooLarge, false)).boxed()
        } else {
            worker.front.answer(Request::from_parts(head, body))
        };
        let exchange = Exchange {
            active,
            body: memory,
            _share: share,
            progress: Some(progress),
            wants_stream,
            is_last: false,
        };
        Responding::new(response, exchange, &worker, PART_BYTES)
    })
}

/// The bytes that a client makes this process keep: a large head, and the part of the body that the client may send
/// before it is read. `head` is the size of the head.
fn kept_bytes(head: usize, body: &Incoming) -> usize {
    let head = if head > SMALL_HEAD_BYTES { head } else { 0 };
    let window = u64::from(STREAM_WINDOW);
    let body = body.size_hint().upper().unwrap_or(window);
    head + usize::try_from(body.min(window)).unwrap_or(usize::MAX)
}

/// The size of a head as HTTP/2 counts it (RFC 9113, section 6.5.2).
fn head_bytes(request: &Request<Incoming>) -> usize {
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + 32);
    path + fields.sum::<usize>()
}

/// Runs the responses of a connection, each for as long as its client reads it.
#[derive(Clone, Debug, Default)]
struct ResponseTasks {
    /// The progress of the next response. hyper calls the service, then spawns the task of the response.
    next: Arc<Mutex<Option<Arc<Progress>>>>,
}

impl ResponseTasks {
    fn next(&self) -> Arc<Progress> {
        let progress = Arc::<Progress>::default();
        *self.next.lock() = Some(Arc::clone(&progress));
        progress
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for ResponseTasks {
    fn execute(&self, response: F) {
        let progress = self.next.lock().take();
        tokio::spawn(ResponseTask {
            response: Box::pin(response),
            progress: progress.unwrap_or_default(),
            parts: 0,
            timer: None,
        });
    }
}

/// A response that is given up if its client reads nothing of it for too long. h2 would wait for a window forever.
struct ResponseTask<F> {
    response: Pin<Box<F>>,
    progress: Arc<Progress>,
    parts: u32,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for ResponseTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.response.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(stream) = this.progress.begun.get() else {
            return Poll::Pending;
        };
        let timeout = match stream {
            // A stream that is closed does not wait for a window.
            Some(closed) if closed.poll(context).is_ready() => return Poll::Ready(()),
            Some(_) => STREAM_PART_TIMEOUT,
            None => PART_TIMEOUT,
        };
        let parts = this.progress.parts();
        let before = std::mem::replace(&mut this.parts, parts);
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if before != parts {
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(context)
    }
}
