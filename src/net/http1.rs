//! HTTP/1 requests of a connection, until the connection is idle, carries a stream, or ends.

use std::convert::Infallible;
use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Method, Request, Response, Version};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as HttpService, service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::debug;

use super::activity::RequestActivity;
use super::idle::IdleConnection;
use super::in_flight::InFlightPermit;
use super::request_body::{HTTP1_FREE_BYTES, limited};
use super::response::{Exchange, Responding, ResponseBody};
use super::short_response::{close, refuse_and_close};
use super::socket::Socket;
use super::stream::{StreamRequest, serve_stream};
use super::time_limits::{self, DRAIN_HEAD_STEPS, HEAD_STEPS, Verdict};
use super::worker::{Connection, WorkerContext};
use crate::http::StreamHandoff;
use crate::http::error::Error;
use crate::http::refused_stream::{EVENTS_PATH, wants_stream};

/// The largest head of a request, and the part of a response that hyper keeps for a slow client. In bytes.
pub(super) const BUFFER_BYTES: usize = 16 * 1_024;

/// The largest part of a response that is given to hyper at once, in bytes.
const PART_BYTES: usize = 16 * 1_024;

/// The most requests of one connection, one after another, while other connections wait for a permit. A client that
/// pipelines more is told to come again, so that it cannot keep its permit for thousands of requests.
const MAX_REQUESTS_OF_A_TURN: u32 = 16;

/// How hyper ended.
enum End {
    /// The connection is over.
    Closed(hyper::Result<()>),
    Idle,
    /// The client is too slow.
    TooSlow,
    /// The handler of a stream takes the connection.
    Stream(StreamRequest),
}

/// The request for a stream whose handler takes the connection.
type Leaving = Arc<Mutex<Option<StreamRequest>>>;

/// Serves requests, beginning with the bytes in `early`. Returns the connection once it is idle, or `None` if it ended
/// or carries a stream. `admitted` is the arrival of the request if it asks for a stream and has waited for admission.
/// `active` counts the connection as load of its worker.
pub(super) async fn serve(
    connection: Connection,
    early: Bytes,
    admitted: Option<Instant>,
    permit: InFlightPermit,
    active: TaskTrackerToken,
) -> Option<IdleConnection> {
    let Connection {
        stream,
        worker,
        guard,
    } = connection;
    let leaving = Leaving::default();
    let service = service(&worker, &permit.activity, &leaving, admitted);
    let socket = Socket::http1(stream, early, &permit.activity);
    let mut http1 = protocol().serve_connection(TokioIo::new(socket), service);
    let end = drive(&mut http1, &worker, &permit.activity, &leaving).await;
    let parts = http1.into_parts();
    let socket = parts.io.into_inner();
    let connection = Connection {
        stream: socket.stream,
        worker,
        guard,
    };
    drop(permit);
    match end {
        End::Idle => {
            // The next request may have arrived with the last one.
            let early = joined(parts.read_buf, socket.early);
            return Some(IdleConnection::answered(connection, early));
        }
        End::Stream(request) => {
            tokio::spawn(serve_stream(connection, request, active));
        }
        End::Closed(Err(error)) if socket.is_refused => {
            let front = &connection.worker.front;
            Box::pin(refuse_and_close(connection.stream, &error, front)).await;
        }
        End::Closed(Err(error)) => debug!(%error, "a connection broke"),
        End::Closed(Ok(())) => {
            let closed = Box::pin(close(connection.stream));
            connection.worker.drain.run_until_cancelled(closed).await;
        }
        End::TooSlow => debug!("a client was too slow and was cut off"),
    }
    None
}

/// The settings of HTTP/1. hyper's own time limit for heads is off: it sets a timer for each request. `half_close`
/// keeps hyper from reading during a request to see whether the client is gone, which takes a read and a buffer for
/// each request. Most calls end soon by themselves, [`Socket`] looks for a reset during the others, and the writer of a
/// stream checks its client.
fn protocol() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(BUFFER_BYTES)
        .header_read_timeout(None)
        .writev(false)
        .half_close(true);
    builder
}

/// Joins the bytes that hyper has read and the bytes that hyper has not read.
fn joined(by_hyper: Bytes, rest: Bytes) -> Bytes {
    match (by_hyper.is_empty(), rest.is_empty()) {
        (true, _) => rest,
        (false, true) => by_hyper,
        (false, false) => [by_hyper, rest].concat().into(),
    }
}

async fn drive<S>(
    http1: &mut http1::Connection<TokioIo<Socket>, S>,
    worker: &WorkerContext,
    activity: &RequestActivity,
    leaving: &Leaving,
) -> End
where
    S: HttpService<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible>
        + Unpin,
    S::Future: Unpin,
{
    let in_flight = &worker.limits.http1;
    // `FuturesUnordered` polls a future only after its wake-up, and not for each request.
    let mut verdicts = FuturesUnordered::new();
    let until_drain = async {
        tokio::select! {
            () = worker.drain.cancelled() => Verdict::Drain,
            verdict = time_limits::http1(activity, in_flight, HEAD_STEPS) => verdict,
        }
    };
    verdicts.push(until_drain.boxed());
    poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = http1.poll_without_shutdown(context) {
                return Poll::Ready(End::Closed(ended));
            }
            if !activity.is_blocked()
                && let Some(request) = leaving.lock().take()
            {
                return Poll::Ready(End::Stream(request));
            }
            if in_flight.is_full() && activity.is_idle() {
                return Poll::Ready(End::Idle);
            }
            match verdicts.poll_next_unpin(context) {
                Poll::Ready(Some(Verdict::Drain)) => {
                    Pin::new(&mut *http1).graceful_shutdown();
                    let draining = time_limits::http1(activity, in_flight, DRAIN_HEAD_STEPS);
                    verdicts.push(draining.boxed());
                }
                Poll::Ready(Some(Verdict::Idle)) => return Poll::Ready(End::Idle),
                Poll::Ready(Some(Verdict::TooSlow)) => return Poll::Ready(End::TooSlow),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// The service that answers the requests of a connection.
fn service(
    worker: &Arc<WorkerContext>,
    activity: &Arc<RequestActivity>,
    leaving: &Leaving,
    admitted: Option<Instant>,
) -> impl HttpService<
    Request<Incoming>,
    Response = Response<ResponseBody>,
    Error = Infallible,
    Future = Responding,
> + Unpin
+ use<> {
    let worker = Arc::clone(worker);
    let activity = Arc::clone(activity);
    let leaving = Arc::clone(leaving);
    // Only the first request has waited for admission.
    let admitted = Mutex::new(admitted);
    let turn = AtomicU32::new(0);
    service_fn(move |request: Request<Incoming>| {
        let admitted = admitted.lock().take();
        let active = activity.begin_request();
        let requests = if worker.limits.http1.has_waiting() {
            turn.load(Ordering::Relaxed) + 1
        } else {
            0
        };
        turn.store(requests, Ordering::Relaxed);
        let may_be_stream = request.uri().path() == EVENTS_PATH
            && request.method() != Method::HEAD
            && !activity.is_blocked();
        let wants_stream = wants_stream(request.uri(), request.headers());
        let (head, body) = request.into_parts();
        let (body, memory) = limited(body, HTTP1_FREE_BYTES, &worker.limits, &activity);
        let request = Request::from_parts(head, body);
        let is_too_large = head_bytes(&request) > BUFFER_BYTES;
        let response = if is_too_large {
            ready(worker.front.refusal(Error::HeadTooLarge, false)).boxed()
        } else if may_be_stream {
            StreamHandler::new(&worker, request, admitted, &leaving).boxed()
        } else {
            worker.front.answer(request)
        };
        let exchange = Exchange {
            active,
            body: memory,
            _share: None,
            progress: None,
            wants_stream,
            is_last: is_too_large || requests >= MAX_REQUESTS_OF_A_TURN,
        };
        Responding::new(response, exchange, &worker, PART_BYTES)
    })
}

/// The length of a head as it was sent. hyper reads pipelined requests into a buffer that takes two heads.
pub(super) fn head_bytes(request: &Request<Body>) -> usize {
    let target = request.uri().path_and_query();
    let target = target.map_or(0, |target| target.as_str().len());
    let line = request.method().as_str().len() + target + " HTTP/1.1\r\n ".len();
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + fields.sum::<usize>() + "\r\n".len()
}

/// The response of a handler that may take the connection from hyper. Then the rest of the handler is left for
/// [`serve_stream`], and this future never resolves.
struct StreamHandler {
    response: Option<BoxFuture<'static, Response<Body>>>,
    version: Version,
    handoff: StreamHandoff,
    leaving: Leaving,
}

impl StreamHandler {
    fn new(
        worker: &WorkerContext,
        mut request: Request<Body>,
        admitted: Option<Instant>,
        leaving: &Leaving,
    ) -> Self {
        let handoff = StreamHandoff::new(admitted);
        let version = request.version();
        request.extensions_mut().insert(handoff.clone());
        Self {
            response: Some(worker.front.answer(request)),
            version,
            handoff,
            leaving: Arc::clone(leaving),
        }
    }
}

impl Future for StreamHandler {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response<Body>> {
        let Some(mut response) = self.response.take() else {
            return Poll::Pending;
        };
        let polled = response.poll_unpin(context);
        if !self.handoff.is_requested() {
            self.response = polled.is_pending().then_some(response);
            return polled;
        }
        if let Poll::Ready(early) = polled {
            response = ready(early).boxed();
        }
        *self.leaving.lock() = Some(StreamRequest {
            response,
            version: self.version,
            handoff: self.handoff.clone(),
        });
        Poll::Pending
    }
}
