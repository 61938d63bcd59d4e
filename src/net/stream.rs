//! A connection that carries a stream and nothing else, without hyper.
//!
//! hyper takes two buffers of 8 KiB and several KiB of state for each connection. A connection without hyper needs none
//! of this memory while it waits for its turn and while its stream is idle. What needs hyper, like the refusal of a
//! credential, is answered before.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::task::Poll;

use axum::body::Body;
use axum::http::{Response, Version};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::disconnect::DisconnectWatch;
use super::event_writer::EventWriter;
use super::short_response::write_response_and_close;
use super::worker::Connection;
use crate::http::StreamHandoff;
use crate::http::error::panicked;

/// A request for a stream whose handler took the connection.
pub(super) struct StreamRequest {
    /// The rest of the handler.
    pub(super) response: BoxFuture<'static, Response<Body>>,
    pub(super) version: Version,
    pub(super) handoff: StreamHandoff,
}

/// Runs the rest of the handler, then writes its stream. Ends early if the client disconnects.
pub(super) async fn serve_stream(
    connection: Connection,
    request: StreamRequest,
    active: TaskTrackerToken,
) {
    let Connection {
        stream,
        worker,
        guard,
    } = connection;
    let StreamRequest {
        response,
        version,
        handoff,
    } = request;
    let mut disconnect = DisconnectWatch::default();
    let mut response = AssertUnwindSafe(response).catch_unwind();
    let response = poll_fn(|context| match response.poll_unpin(context) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => disconnect.poll(&stream, context).map(|()| None),
    });
    let Some(response) = response.await else {
        return;
    };
    let response = response.unwrap_or_else(|cause| worker.front.refusal(panicked(cause), false));
    match handoff.take_stream() {
        Some(events) if response.status().is_success() => {
            let head = response.into_parts().0;
            let writer = EventWriter::new(stream, disconnect, worker, version, &head, events);
            // A task of its own: the memory of this task has the size that the handler needed.
            tokio::spawn(async move {
                // Dropped after the socket, which the writer owns.
                let _guards = (guard, active);
                writer.await;
            });
        }
        // On the heap: thousands of these tasks may wait, and few of them get here.
        _ => Box::pin(write_response_and_close(stream, response)).await,
    }
}
