//! Bodies as they pass through a connection: requests counted, answers in small parts.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use axum::Error as BodyError;
use axum::body::{Body, HttpBody};
use axum::http::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, CatchUnwind};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::activity::{ActiveRequest, RequestActivity};
use super::http2_places::OpenRequest;
use super::request_limits::{MemoryShare, RequestLimits};
use super::worker::WorkerContext;
use crate::events::StreamClosed;
use crate::http::error::{Error, panicked};

/// Bodies of HTTP/1 of more bytes than this take a share of the room.
const SMALL: usize = 16 * 1_024;

/// How many bytes a body takes for each that was read: it is collected in a buffer that grows.
const GROWTH: usize = 2;

/// How much of an answer hyper is given at once: its buffers hold a copy of it.
pub(super) const HTTP1_PART: usize = 16 * 1_024;
pub(super) const HTTP2_PART: usize = 4 * 1_024;

/// How far an answer has got, for whoever waits for its reader to take it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    begun: AtomicBool,
    endless: AtomicBool,
    parts: AtomicU32,
    /// Of a stream.
    end: Mutex<Option<StreamClosed>>,
}

impl Progress {
    /// Resolves once the reader of a stream gets nothing more.
    pub(super) fn poll_cut_off(&self, context: &mut Context<'_>) -> Poll<()> {
        match &*self.end.lock() {
            Some(end) => end.poll(context),
            None => Poll::Pending,
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether it is a stream, which is silent for as long as nothing happens.
    pub(super) fn is_endless(&self) -> bool {
        self.endless.load(Ordering::Relaxed)
    }

    pub(super) fn parts(&self) -> u32 {
        self.parts.load(Ordering::Relaxed)
    }
}

/// What the body of a request took of the room, until the request is answered.
#[derive(Clone, Debug)]
pub(super) struct BodyShare(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    /// How many of them take no share.
    free: usize,
    shares: Option<MemoryShare>,
    is_too_much: bool,
}

impl BodyShare {
    /// Whether there is room for so many more bytes.
    fn grow(&self, bytes: usize, room: &RequestLimits) -> bool {
        let mut taken = self.0.lock();
        let before = taken.bytes.max(taken.free);
        taken.bytes += bytes;
        let Some(more) = taken.bytes.checked_sub(before).filter(|more| *more > 0) else {
            return true;
        };
        match (room.bulk(GROWTH * more), &mut taken.shares) {
            (Some(share), Some(shares)) => shares.merge(share),
            (Some(share), shares) => *shares = Some(share),
            (None, _) => taken.is_too_much = true,
        }
        !taken.is_too_much
    }

    fn with_free(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Taken {
            free: bytes,
            ..Taken::default()
        })))
    }

    fn is_too_much(&self) -> bool {
        self.0.lock().is_too_much
    }
}

/// The body of a request. What is read of it takes a share of the room; on HTTP/1 beyond what fits into its place.
pub(super) fn counted(
    body: Incoming,
    room: &Arc<RequestLimits>,
    talk: &Arc<RequestActivity>,
    is_http2: bool,
) -> (Body, Option<BodyShare>) {
    if body.is_end_stream() {
        return (Body::empty(), None);
    }
    let share = BodyShare::with_free(if is_http2 { 0 } else { SMALL });
    let body = Counting {
        body,
        share: share.clone(),
        room: Arc::clone(room),
        talk: Arc::clone(talk),
    };
    (Body::new(body), Some(share))
}

struct Counting {
    body: Incoming,
    share: BodyShare,
    room: Arc<RequestLimits>,
    talk: Arc<RequestActivity>,
}

impl HttpBody for Counting {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.talk.set_waits_for_body(polled.is_pending());
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && !self.share.grow(data.len(), &self.room)
        {
            return Poll::Ready(Some(Err(BodyError::new(Error::Overloaded))));
        }
        polled.map_err(BodyError::new)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.talk.set_waits_for_body(false);
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    /// What was given out by the body, and not yet to hyper.
    rest: Bytes,
    part: usize,
    progress: Option<Arc<Progress>>,
    _of_request: Option<BodyShare>,
    _share: Option<MemoryShare>,
    /// On HTTP/2.
    _open: Option<OpenRequest>,
    in_progress: ActiveRequest,
}

/// What an answer is for.
pub(super) struct Asked {
    pub(super) in_progress: ActiveRequest,
    pub(super) body: Option<BodyShare>,
    pub(super) progress: Option<Arc<Progress>>,
    /// On HTTP/2.
    pub(super) open: Option<OpenRequest>,
}

/// An answer on its way.
pub(super) struct Answering {
    answer: CatchUnwind<AssertUnwindSafe<BoxFuture<'static, Response<Body>>>>,
    /// Until there is an answer.
    asked: Option<Asked>,
    host: Arc<WorkerContext>,
    part: usize,
}

impl Answering {
    /// To what was asked comes this answer, in parts of at most `part` bytes. A panic is answered too.
    pub(super) fn new(
        answer: BoxFuture<'static, Response<Body>>,
        asked: Asked,
        host: &Arc<WorkerContext>,
        part: usize,
    ) -> Self {
        Self {
            answer: AssertUnwindSafe(answer).catch_unwind(),
            asked: Some(asked),
            host: Arc::clone(host),
            part,
        }
    }
}

impl Future for Answering {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(self.answer.poll_unpin(context));
        let response = answer.unwrap_or_else(|cause| self.host.front.refusal(panicked(cause)));
        match self.asked.take() {
            Some(asked) => Poll::Ready(Ok(Answer::to(asked, response, &self.host, self.part))),
            None => Poll::Pending,
        }
    }
}

impl Answer {
    /// The answer in parts of at most `part` bytes; a refusal where there is no room for it.
    fn to(
        asked: Asked,
        response: Response<Body>,
        host: &WorkerContext,
        part: usize,
    ) -> Response<Self> {
        let overloaded = || host.front.refusal(Error::Overloaded);
        let response = match &asked.body {
            Some(body) if body.is_too_much() => overloaded(),
            _ => response,
        };
        let (mut response, rest, share) = match begun(response, &host.room, part) {
            Some(begun) => begun,
            None => (overloaded(), Bytes::new(), None),
        };
        if let Some(progress) = &asked.progress {
            let end = response.extensions_mut().remove::<StreamClosed>();
            progress.endless.store(end.is_some(), Ordering::Relaxed);
            *progress.end.lock() = end;
            progress.begun.store(true, Ordering::Relaxed);
        }
        response.map(|body| Self {
            body,
            rest,
            part,
            progress: asked.progress,
            _of_request: asked.body,
            _share: share,
            _open: asked.open,
            in_progress: asked.in_progress,
        })
    }
}

/// The answer, its first bytes where it is long, and the room that these take. What a body has in memory as a
/// whole it gives out as a whole. So many bytes are free.
fn begun(
    mut response: Response<Body>,
    room: &RequestLimits,
    free: usize,
) -> Option<(Response<Body>, Bytes, Option<MemoryShare>)> {
    if response.body().size_hint().lower() <= free as u64 {
        return Some((response, Bytes::new(), None));
    }
    let first = response.body_mut().frame().now_or_never().flatten();
    let first = first.and_then(Result::ok);
    let first = first.and_then(|frame| frame.into_data().ok());
    let first = first.unwrap_or_default();
    if first.len() <= free {
        return Some((response, first, None));
    }
    let share = room.bulk(first.len())?;
    Some((response, first, Some(share)))
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.rest.is_empty() {
            let polled = Pin::new(&mut self.body).poll_frame(context);
            match polled {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    self.rest = frame.into_data().unwrap_or_default();
                }
                other => return other,
            }
        }
        let count = self.rest.len().min(self.part);
        let part = self.rest.split_to(count);
        if let Some(progress) = &self.progress {
            progress.parts.fetch_add(1, Ordering::Relaxed);
        }
        self.in_progress.answers();
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
