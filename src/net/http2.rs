//! A connection of HTTP/2, until its client, its time or the shutdown ends it.

pub(super) mod frames;
pub(super) mod goaway;

use std::convert::Infallible;
use std::future::{Future, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::body::{Body as _, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::{Service as HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tracing::debug;

use super::ConnectionGuard;
use super::activity::{RequestActivity, Verdict};
use super::answer::{Answer, Answering, Asked, HTTP2_PART, Progress, counted};
use super::http2_places::Http2Place;
use super::short_response::write_and_close;
use super::socket::Socket;
use super::worker::{Busy, WorkerContext};
use crate::http::error::Error;

/// How often a client is probed, and how long it may take to answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(20);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests at once on one connection: the least that RFC 9113, section 6.5.2, recommends. A proxy that needs more
/// opens another connection; each costs memory for as long as its answer is not read.
const MOST_STREAMS: u32 = 100;

/// The largest head, uncompressed.
pub(super) const HEAD_BYTES: usize = 16 * 1_024;

/// How large a head may be to be refused by a problem document. h2 answers one that is larger by a bare 431, or ends
/// the connection; nor does it take a target of 64 KiB.
pub(super) const MOST_READ_OF_HEAD: usize = 72 * 1_024;

/// What clients may send of bodies before they are read: on one stream, and on all of a connection.
const STREAM_WINDOW: u32 = 64 * 1_024;
const CONNECTION_WINDOW: u32 = 128 * 1_024;

/// How much of an answer waits for its reader, beside one part.
const SEND_BUFFER: usize = HTTP2_PART;

/// What a request takes of the room beside its bodies: a small head, a part of its answer in h2, and state.
const REQUEST_BYTES: usize = HTTP2_PART + 4 * 1_024;

/// Empty settings, and that no request was or will be handled (RFC 9113, sections 6.5 and 6.8).
const GOAWAY: [u8; 26] = [
    0, 0, 0, 4, 0, 0, 0, 0, 0, // SETTINGS
    0, 0, 8, 7, 0, 0, 0, 0, 0, // GOAWAY
    0, 0, 0, 0, 0, 0, 0, 0, // the last stream, and no error
];

/// How long a client may take to end that is idle and whose place others need.
const END_PATIENCE: Duration = Duration::from_millis(250);

/// Heads of more bytes than this are counted.
const SMALL_HEAD: usize = 2 * 1_024;

/// How long an answer may wait for its reader to take a part of it. A stream sends a comment every 15 s.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
const STREAM_PATIENCE: Duration = Duration::from_secs(60);

/// What a connection is told by something else than its bytes.
enum Signal {
    Verdict(Verdict),
    /// It was idle, and its place is needed.
    NoPlace,
}

/// Serves until something ends it.
pub(super) async fn serve(
    stream: TcpStream,
    early: Bytes,
    host: Arc<WorkerContext>,
    held: ConnectionGuard,
    busy: Busy,
) {
    // Given up at the end.
    let _held = (held, busy);
    let Some(place) = host.room.http2.take().await else {
        debug!("there is no place for another connection of HTTP/2");
        write_and_close(stream, &GOAWAY).await;
        return;
    };
    let talk = RequestActivity::http2();
    let socket = Socket::new(stream, early, Arc::clone(&talk)).of_frames(Arc::clone(&host.room));
    let waits = Waits::default();
    let service = answering(&host, &talk, &waits, &place);
    let connection = protocol(waits).serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    let mut drain = host.drain.clone();
    let mut signals = FuturesUnordered::new();
    let first = async {
        tokio::select! {
            // An error means that the other end is gone, and that is the sign.
            _ = drain.changed() => Signal::Verdict(Verdict::Idle),
            judged = talk.silent_or_slow(host.keep_alive) => Signal::Verdict(judged),
            () = place.is_to_end() => Signal::NoPlace,
        }
    };
    signals.push(first.boxed());
    poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                if let Err(error) = ended {
                    debug!(%error, "a connection broke");
                }
                return Poll::Ready(());
            }
            match signals.poll_next_unpin(context) {
                Poll::Ready(Some(Signal::Verdict(Verdict::Idle))) => {
                    connection.as_mut().graceful_shutdown();
                    signals.push(talk.too_slow_to_end().map(Signal::Verdict).boxed());
                }
                Poll::Ready(Some(Signal::NoPlace)) => {
                    connection.as_mut().graceful_shutdown();
                    let late = talk.too_late_to_end(END_PATIENCE);
                    signals.push(late.map(Signal::Verdict).boxed());
                }
                Poll::Ready(Some(Signal::Verdict(Verdict::TooSlow))) => {
                    debug!("a client that was too slow was cut off");
                    return Poll::Ready(());
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

fn protocol(waits: Waits) -> http2::Builder<Waits> {
    let mut builder = http2::Builder::new(waits);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PROBE_INTERVAL)
        .keep_alive_timeout(PROBE_TIMEOUT)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MOST_READ_OF_HEAD as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    builder
}

/// What answers the requests.
fn answering(
    host: &Arc<WorkerContext>,
    talk: &Arc<RequestActivity>,
    waits: &Waits,
    place: &Arc<Http2Place>,
) -> impl HttpService<
    Request<Incoming>,
    Response = Response<Answer>,
    Error = Infallible,
    Future = Answering,
> + use<> {
    let (host, talk, waits) = (Arc::clone(host), Arc::clone(talk), waits.clone());
    let place = Arc::clone(place);
    service_fn(move |request: Request<Incoming>| {
        let in_progress = talk.asked();
        let progress = waits.next();
        let is_too_large = head_bytes(&request) > HEAD_BYTES;
        // What is refused is not kept.
        let kept = if is_too_large {
            0
        } else {
            bytes_to_keep(&request)
        };
        let share = host.room.bulk(REQUEST_BYTES + kept);
        let has_room = share.is_some();
        let (head, body) = request.into_parts();
        let (body, of_body) = counted(body, &host.room, &talk, true);
        let asked = Asked {
            in_progress,
            body: of_body,
            progress: Some(progress),
            open: Some(place.begin(share)),
        };
        let answer = match (has_room, is_too_large) {
            (false, _) => ready(host.front.refusal(Error::Overloaded)).boxed(),
            (true, true) => ready(host.front.refusal(Error::HeadTooLarge)).boxed(),
            (true, false) => host.front.answer(Request::from_parts(head, body)),
        };
        Answering::new(answer, asked, &host, HTTP2_PART)
    })
}

/// What the client makes this process keep: a large head, and what it may send of a body before that is read.
fn bytes_to_keep(request: &Request<Incoming>) -> usize {
    let head = head_bytes(request);
    let head = if head > SMALL_HEAD { head } else { 0 };
    let window = u64::from(STREAM_WINDOW);
    let body = request.body().size_hint().upper().unwrap_or(window);
    head + usize::try_from(body.min(window)).unwrap_or(usize::MAX)
}

fn head_bytes(request: &Request<Incoming>) -> usize {
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + 32);
    path + fields.sum::<usize>()
}

/// Runs what answers the requests of a connection, each for as long as its client takes the answer.
#[derive(Clone, Debug, Default)]
struct Waits {
    /// Of the request that hyper hands over next: it asks for the answer and then for the task.
    next: Arc<Mutex<Option<Arc<Progress>>>>,
}

impl Waits {
    fn next(&self) -> Arc<Progress> {
        let progress = Arc::<Progress>::default();
        *self.next.lock() = Some(Arc::clone(&progress));
        progress
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Waits {
    fn execute(&self, answer: F) {
        let progress = self.next.lock().take();
        let answer = Box::pin(answer);
        tokio::spawn(Taken {
            answer,
            progress: progress.unwrap_or_default(),
            parts: 0,
            timer: None,
        });
    }
}

/// An answer, which is given up if its reader takes nothing of it for too long: h2 would wait for ever for a window.
struct Taken<F> {
    answer: Pin<Box<F>>,
    progress: Arc<Progress>,
    parts: u32,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F> Taken<F> {
    fn patience(&self) -> Duration {
        match self.progress.is_endless() {
            true => STREAM_PATIENCE,
            false => ANSWER_PATIENCE,
        }
    }
}

impl<F: Future<Output = ()>> Future for Taken<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.answer.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        if !self.progress.has_begun() {
            return Poll::Pending;
        }
        // A stream that is to end does not wait for a window.
        if self.progress.poll_cut_off(context).is_ready() {
            return Poll::Ready(());
        }
        let (patience, parts) = (self.patience(), self.progress.parts());
        let before = std::mem::replace(&mut self.parts, parts);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        if before != parts {
            timer.as_mut().reset(Instant::now() + patience);
        }
        timer.as_mut().poll(context)
    }
}
