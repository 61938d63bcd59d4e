//! HTTP/1 requests of one connection, from the first byte of one until nothing is asked any more.

use std::convert::Infallible;
use std::future::{pending, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method, Request, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as HttpService, service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::debug;

use super::ConnectionGuard;
use super::activity::{RequestActivity, Verdict};
use super::answer::{Answer, Answering, Asked, HTTP1_PART, counted};
use super::idle::IdleConnection;
use super::in_flight::InFlightPermit;
use super::request_head::EVENTS_PATH;
use super::seat::{Outside, Told, answer_apart};
use super::short_response::refuse;
use super::socket::Socket;
use super::worker::{Busy, WorkerContext};
use crate::http::error::Error;

/// The largest request head, and how much of an answer hyper keeps for a client that takes it slowly.
const BUFFER_BYTES: usize = 16 * 1_024;

/// How HTTP/1 is spoken. hyper's own time-out for heads is not used: it would arm a timer for every request. Nor
/// does hyper look during a call whether the client is still there, which takes a read and a buffer for each: a call
/// ends soon by itself, and whoever writes a stream looks.
pub(super) fn protocol() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(BUFFER_BYTES)
        .header_read_timeout(None)
        .writev(false)
        .half_close(true);
    builder
}

/// A connection with a request, and all that serves it.
pub(super) struct Conversation {
    pub(super) stream: TcpStream,
    /// What was read of the request.
    pub(super) early: Bytes,
    /// When the client asked for a stream by its first request, if it has waited for its turn since.
    pub(super) admitted: Option<Instant>,
    pub(super) host: Arc<WorkerContext>,
    pub(super) held: ConnectionGuard,
    pub(super) busy: Busy,
    /// Its place among those that may be in the middle of a request at once.
    pub(super) place: InFlightPermit,
}

/// How hyper's part ended.
enum End {
    /// Its connection is over.
    Over(hyper::Result<()>),
    /// Nothing is asked any more.
    Idle,
    /// The client is too slow.
    CutOff,
    /// The connection is to be handed over to this.
    Leaves(oneshot::Sender<Outside>),
}

/// What a conversation is told by something else than its bytes.
enum Signal {
    /// To end with the request it is in.
    Drain,
    Verdict(Verdict),
    /// To give its place to others.
    CutOff,
}

/// Whom the connection is to be handed over to, once a handler asked for it.
type Leaving = Arc<Mutex<Option<oneshot::Sender<Outside>>>>;

impl Conversation {
    /// Serves until nothing is asked any more, or something ends it.
    pub(super) fn start(self) -> BoxFuture<'static, ()> {
        self.run().boxed()
    }

    async fn run(self) {
        let talk = RequestActivity::http1();
        self.place.watch(&talk);
        let leaving = Leaving::default();
        let service = answering(&self.host, &talk, &leaving, self.admitted);
        let socket = Socket::new(self.stream, self.early, Arc::clone(&talk));
        let mut connection = self
            .host
            .http1
            .serve_connection(TokioIo::new(socket), service);
        let end = served(&mut connection, &self.host, &talk, &leaving).await;
        let parts = connection.into_parts();
        let (stream, early) = parts.io.into_inner().into_parts();
        match end {
            End::Idle => {
                drop(self.place);
                // It may ask for more, which came together with what was answered.
                let early = joined(parts.read_buf, early);
                let idle = IdleConnection::answered(stream, early, self.host, self.held);
                tokio::spawn(idle.run());
            }
            End::Leaves(door) => {
                let (held, busy) = (self.held, self.busy);
                // Where nobody takes it, the connection ends.
                let _ = door.send(Outside { stream, held, busy });
            }
            End::Over(Err(error)) if talk.has_refused() => {
                // What is left to say is short, and its client may be slow to take it.
                drop(self.place);
                refuse(stream, &error, &self.host.front).await;
            }
            End::Over(Err(error)) => debug!(%error, "a connection broke"),
            End::Over(Ok(())) => {}
            End::CutOff => debug!("a client that was too slow was cut off"),
        }
    }
}

/// What was read of a connection, by hyper first.
fn joined(by_hyper: Bytes, rest: Bytes) -> Bytes {
    match (by_hyper.is_empty(), rest.is_empty()) {
        (true, _) => rest,
        (false, true) => by_hyper,
        (false, false) => [by_hyper, rest].concat().into(),
    }
}

async fn served<S>(
    connection: &mut http1::Connection<TokioIo<Socket>, S>,
    host: &WorkerContext,
    talk: &RequestActivity,
    leaving: &Leaving,
) -> End
where
    S: HttpService<Request<Incoming>, Response = Response<Answer>, Error = Infallible> + Unpin,
    S::Future: Unpin,
{
    let mut drain = host.drain.clone();
    // These are polled only when they wake the task themselves, and not for every request.
    let mut signals = FuturesUnordered::new();
    let first = async {
        tokio::select! {
            // An error means that the other end is gone, and that is the sign.
            _ = drain.changed() => Signal::Drain,
            judged = talk.idle_or_slow(&host.room, false) => Signal::Verdict(judged),
            () = talk.is_cut_off() => Signal::CutOff,
        }
    };
    signals.push(first.boxed());
    poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = connection.poll_without_shutdown(context) {
                return Poll::Ready(End::Over(ended));
            }
            if !talk.is_blocked()
                && let Some(door) = leaving.lock().take()
            {
                return Poll::Ready(End::Leaves(door));
            }
            if host.room.is_crowded() && talk.is_idle() {
                return Poll::Ready(End::Idle);
            }
            match signals.poll_next_unpin(context) {
                Poll::Ready(Some(Signal::Drain)) => {
                    Pin::new(&mut *connection).graceful_shutdown();
                    let last = async {
                        tokio::select! {
                            judged = talk.idle_or_slow(&host.room, true) => Signal::Verdict(judged),
                            () = talk.is_cut_off() => Signal::CutOff,
                        }
                    };
                    signals.push(last.boxed());
                }
                Poll::Ready(Some(Signal::Verdict(Verdict::Idle))) => return Poll::Ready(End::Idle),
                Poll::Ready(Some(Signal::CutOff)) if talk.is_between_requests() => {
                    return Poll::Ready(End::Idle);
                }
                Poll::Ready(Some(Signal::Verdict(Verdict::TooSlow) | Signal::CutOff)) => {
                    return Poll::Ready(End::CutOff);
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// What answers the requests.
fn answering(
    host: &Arc<WorkerContext>,
    talk: &Arc<RequestActivity>,
    leaving: &Leaving,
    admitted: Option<Instant>,
) -> impl HttpService<
    Request<Incoming>,
    Response = Response<Answer>,
    Error = Infallible,
    Future = Answering,
> + Unpin
+ use<> {
    let (host, talk, leaving) = (Arc::clone(host), Arc::clone(talk), Arc::clone(leaving));
    let admitted = Mutex::new(admitted);
    service_fn(move |request: Request<Incoming>| {
        // It was admitted for its first request.
        let admitted = admitted.lock().take();
        let in_progress = talk.asked();
        let is_for_a_stream = may_leave_hyper(&request) && !talk.is_blocked();
        let (head, body) = request.into_parts();
        let (body, share) = counted(body, &host.room, &talk, false);
        let request = Request::from_parts(head, body);
        let asked = Asked {
            in_progress,
            body: share,
            progress: None,
            open: None,
        };
        let answer = if head_bytes(&request) > BUFFER_BYTES {
            ready(refusal_of_head(&host)).boxed()
        } else if is_for_a_stream {
            told(
                answer_apart(&host, request, admitted),
                Arc::clone(&host),
                Arc::clone(&leaving),
            )
            .boxed()
        } else {
            host.front.answer(request)
        };
        Answering::new(answer, asked, &host, HTTP1_PART)
    })
}

/// How long a head is as it was sent: hyper reads on from one request to the next in a buffer that takes two heads.
fn head_bytes(request: &Request<Body>) -> usize {
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    let line = request.method().as_str().len() + target + " HTTP/1.1\r\n ".len();
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + fields.sum::<usize>() + "\r\n".len()
}

fn refusal_of_head(host: &WorkerContext) -> axum::response::Response {
    let mut answer = host.front.refusal(Error::HeadTooLarge);
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Whether the connection has nothing else to carry than the answer, which may be a stream.
fn may_leave_hyper(request: &Request<Incoming>) -> bool {
    request.uri().path() == EVENTS_PATH && request.method() != Method::HEAD
}

/// The answer of a task of its own, unless that takes the connection.
async fn told(
    telling: oneshot::Receiver<Told>,
    host: Arc<WorkerContext>,
    leaving: Leaving,
) -> axum::response::Response {
    match telling.await {
        Ok(Told::Answer(answer)) => answer,
        Ok(Told::Leave(door)) => {
            *leaving.lock() = Some(door);
            pending().await
        }
        Err(_) => {
            let why = "the task that opens a stream ended".to_owned();
            host.front.refusal(Error::Internal(why))
        }
    }
}
