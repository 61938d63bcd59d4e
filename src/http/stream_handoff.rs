//! The handoff of a connection from hyper to the writer of a stream.
//!
//! `net` adds a [`StreamHandoff`] to the extensions of a request if its connection can carry a stream and nothing else.
//! The handler requests the handoff once the caller has permission, and leaves the opened stream in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::events::EventStream;

/// The connection of a request, as the handler of streams sees it.
#[derive(Clone, Debug)]
pub(crate) struct StreamHandoff(Arc<State>);

#[derive(Debug)]
struct State {
    admitted: Option<Instant>,
    is_requested: AtomicBool,
    stream: Mutex<Option<EventStream>>,
}

impl StreamHandoff {
    /// Offers a handoff. `admitted` is the arrival of the request if the request has already waited for admission.
    pub(crate) fn new(admitted: Option<Instant>) -> Self {
        Self(Arc::new(State {
            admitted,
            is_requested: AtomicBool::new(false),
            stream: Mutex::default(),
        }))
    }

    /// The arrival of the request, if the request has already waited for admission.
    pub(super) fn admitted(&self) -> Option<Instant> {
        self.0.admitted
    }

    /// Takes the connection from hyper. From now on the response is a stream, or ends the connection.
    pub(super) fn request(&self) {
        self.0.is_requested.store(true, Ordering::Relaxed);
    }

    /// Whether the handler requested the handoff.
    pub(crate) fn is_requested(&self) -> bool {
        self.0.is_requested.load(Ordering::Relaxed)
    }

    /// Leaves the stream for the writer. The response that goes with it must have no body.
    pub(super) fn put_stream(&self, stream: EventStream) {
        *self.0.stream.lock() = Some(stream);
    }

    /// Takes the stream that the handler left.
    pub(crate) fn take_stream(&self) -> Option<EventStream> {
        self.0.stream.lock().take()
    }
}
