//! The body of the response of a stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::hub::Hub;
use super::stream_limit::StreamPermit;
use super::subscriber::Subscriber;

/// The body of a stream's response. Dropping it closes the stream.
#[derive(Debug)]
pub struct EventStream {
    subscriber: Arc<Subscriber>,
    hub: Arc<Hub>,
    /// Held until the stream is closed.
    _place: StreamPermit,
}

impl EventStream {
    pub(super) fn new(subscriber: Arc<Subscriber>, hub: Arc<Hub>, place: StreamPermit) -> Self {
        Self {
            subscriber,
            hub,
            _place: place,
        }
    }

    /// What tells of its end.
    pub fn end(&self) -> StreamEnd {
        StreamEnd(Arc::clone(&self.subscriber))
    }

    /// What is to be written next, or `None` at the end.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.subscriber.poll_next(context)
    }

    /// Resolves once the reader gets nothing more, not even what was handed out and is not written
    /// yet: for whoever is stuck and does not ask for more.
    pub fn poll_cut_off(&self, context: &mut Context<'_>) -> Poll<()> {
        self.subscriber.poll_cut_off(context)
    }
}

/// Tells of the end of a stream whoever does not have the stream itself.
#[derive(Clone, Debug)]
pub struct StreamEnd(Arc<Subscriber>);

impl StreamEnd {
    /// Resolves as [`EventStream::poll_cut_off`] does. The task that polls it must be the one that polls the stream.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_cut_off(context)
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.poll_next(context);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.subscriber.finish();
        self.hub.close(&self.subscriber);
    }
}
