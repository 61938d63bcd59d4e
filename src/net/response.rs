//! Responses on their way to hyper: handlers that panic are answered, and bodies are limited in memory.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::Error as BodyError;
use axum::body::{Body, HttpBody};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, CatchUnwind};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use super::activity::ActiveRequest;
use super::request_body::BodyMemory;
use super::request_limits::{MemoryShare, RequestLimits};
use super::worker::WorkerContext;
use crate::events::StreamClosed;
use crate::http::error::{Error, panicked};

/// The progress of an HTTP/2 response.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Set once the response begins: `Some` if it is a stream.
    pub(super) begun: OnceLock<Option<StreamClosed>>,
    parts: AtomicU32,
}

impl Progress {
    /// The parts of the body that hyper has taken.
    pub(super) fn parts(&self) -> u32 {
        self.parts.load(Ordering::Relaxed)
    }
}

/// A request, and what it holds until its response is complete.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) active: ActiveRequest,
    pub(super) body: Option<BodyMemory>,
    /// The memory of an HTTP/2 request.
    pub(super) _share: Option<MemoryShare>,
    /// On HTTP/2.
    pub(super) progress: Option<Arc<Progress>>,
    /// Whether a temporary error must be a short stream.
    pub(super) wants_stream: bool,
    /// On HTTP/1: whether the connection is closed after the response.
    pub(super) is_last: bool,
}

/// The future of a response.
pub(super) struct Responding {
    response: CatchUnwind<AssertUnwindSafe<BoxFuture<'static, Response<Body>>>>,
    /// `None` once there is a response.
    exchange: Option<Exchange>,
    worker: Arc<WorkerContext>,
    part_bytes: usize,
}

impl Responding {
    /// Answers a request. The body is given to hyper in parts of at most `part_bytes`, because hyper copies each part
    /// into its buffers.
    pub(super) fn new(
        response: BoxFuture<'static, Response<Body>>,
        exchange: Exchange,
        worker: &Arc<WorkerContext>,
        part_bytes: usize,
    ) -> Self {
        Self {
            response: AssertUnwindSafe(response).catch_unwind(),
            exchange: Some(exchange),
            worker: Arc::clone(worker),
            part_bytes,
        }
    }
}

impl Future for Responding {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.response.poll_unpin(context));
        let front = &self.worker.front;
        let response = response.unwrap_or_else(|cause| front.refusal(panicked(cause), false));
        let Some(mut exchange) = self.exchange.take() else {
            return Poll::Pending;
        };
        let is_exceeded = exchange.body.as_ref().is_some_and(BodyMemory::is_exceeded);
        let limited = if is_exceeded {
            None
        } else {
            first_frame(response, &self.worker.limits, self.part_bytes)
        };
        let (mut response, rest, share) = limited.unwrap_or_else(|| {
            let refusal = self
                .worker
                .front
                .refusal(Error::Overloaded, exchange.wants_stream);
            (refusal, Bytes::new(), None)
        });
        if exchange.is_last {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        if let Some(progress) = &exchange.progress {
            // It is set once, here.
            let _ = progress.begun.set(response.extensions_mut().remove());
        }
        exchange.active.set_waits(true);
        Poll::Ready(Ok(response.map(|body| ResponseBody {
            body,
            rest,
            part_bytes: self.part_bytes,
            exchange,
            _share: share,
        })))
    }
}

/// Takes memory for a long response, whose body comes in one frame. Also returns this frame. Returns `None` if too
/// little memory is left. Up to `free` bytes take no memory.
fn first_frame(
    mut response: Response<Body>,
    limits: &RequestLimits,
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
    let share = limits.large(first.len())?;
    Some((response, first, Some(share)))
}

/// The body of a response, in parts.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    /// Bytes of the last frame of `body` that hyper has not taken.
    rest: Bytes,
    part_bytes: usize,
    exchange: Exchange,
    _share: Option<MemoryShare>,
}

impl HttpBody for ResponseBody {
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
                other => {
                    self.exchange.active.set_waits(other.is_ready());
                    return other;
                }
            }
        }
        let count = self.rest.len().min(self.part_bytes);
        let part = self.rest.split_to(count);
        if let Some(progress) = &self.exchange.progress {
            progress.parts.fetch_add(1, Ordering::Relaxed);
        }
        self.exchange.active.record_part();
        // hyper takes the next part once the client has room for it.
        self.exchange.active.set_waits(true);
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
