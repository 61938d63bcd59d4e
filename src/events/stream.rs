//! The response body of a stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;

use super::hub::Hub;
use super::sse::frame::Frame;
use super::stream_limit::StreamPermit;
use super::subscriber::Subscriber;

/// The response body of a stream. Dropping it closes the stream.
#[derive(Debug)]
pub(crate) struct EventStream {
    subscriber: Arc<Subscriber>,
    hub: Arc<Hub>,
    /// Freed when the stream is closed. `None`: the stream does not count.
    _permit: Option<StreamPermit>,
}

impl EventStream {
    pub(super) fn new(
        subscriber: Arc<Subscriber>,
        hub: Arc<Hub>,
        permit: Option<StreamPermit>,
    ) -> Self {
        Self {
            subscriber,
            hub,
            _permit: permit,
        }
    }

    /// Returns a handle that resolves when the stream is closed.
    pub(crate) fn closed(&self) -> StreamClosed {
        StreamClosed(Arc::clone(&self.subscriber))
    }

    /// Returns the next frame to write, or `None` at the end of the stream.
    pub(crate) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        self.subscriber.poll_next(context)
    }

    /// Resolves once the stream is closed and even frames that are handed out need not be written.
    /// A writer polls this while its client reads nothing.
    pub(crate) fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        self.subscriber.poll_closed(context)
    }
}

/// Resolves when the stream is closed.
#[derive(Clone, Debug)]
pub(crate) struct StreamClosed(Arc<Subscriber>);

impl StreamClosed {
    /// Polls like [`EventStream::poll_closed`]. Only the task that polls the stream may call it.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_closed(context)
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let next = self.poll_next(context);
        next.map(|frame| frame.map(|frame| Ok(http_body::Frame::data(frame.data()))))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.subscriber.close();
        self.hub.remove(&self.subscriber);
    }
}
