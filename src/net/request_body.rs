//! The bodies of requests, whose memory is limited.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Error as BodyError;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::activity::{ClientWait, RequestActivity};
use super::request_limits::{MemoryShare, RequestLimits};
use crate::http::error::Error;

/// The bytes of an HTTP/1 body that the permit of the connection includes.
pub(super) const HTTP1_FREE_BYTES: usize = 16 * 1_024;

/// The memory for each byte of a body: a handler collects the body in a buffer that grows.
const GROWTH: usize = 2;

/// The memory of a request body, until the request is answered.
#[derive(Clone, Debug)]
pub(super) struct BodyMemory(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Bytes that take no share.
    free: usize,
    share: Option<MemoryShare>,
    is_exceeded: bool,
}

impl BodyMemory {
    /// Takes memory for more bytes. Returns false if too little is left.
    fn grow(&self, bytes: usize, limits: &RequestLimits) -> bool {
        let mut state = self.0.lock();
        let counted = bytes.saturating_sub(state.free);
        state.free -= bytes - counted;
        if counted > 0 {
            match (limits.large(GROWTH * counted), &mut state.share) {
                (Some(more), Some(share)) => share.merge(more),
                (Some(more), share) => *share = Some(more),
                (None, _) => state.is_exceeded = true,
            }
        }
        !state.is_exceeded
    }

    /// Whether the body was cut off because too little memory was left.
    pub(super) fn is_exceeded(&self) -> bool {
        self.0.lock().is_exceeded
    }
}

/// A request body that takes memory as it is read, beyond `free` bytes. Also returns this memory, or `None` if the
/// body is empty.
pub(super) fn limited(
    body: Incoming,
    free: usize,
    limits: &Arc<RequestLimits>,
    activity: &Arc<RequestActivity>,
) -> (Body, Option<BodyMemory>) {
    if body.is_end_stream() {
        return (Body::empty(), None);
    }
    let memory = BodyMemory(Arc::new(Mutex::new(State {
        free,
        share: None,
        is_exceeded: false,
    })));
    let body = LimitedBody {
        body,
        memory: memory.clone(),
        limits: Arc::clone(limits),
        wait: activity.client_wait(),
    };
    (Body::new(body), Some(memory))
}

struct LimitedBody {
    body: Incoming,
    memory: BodyMemory,
    limits: Arc<RequestLimits>,
    wait: ClientWait,
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.wait.set(polled.is_pending());
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && !self.memory.grow(data.len(), &self.limits)
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
