//! The life of a connection: it is idle, then serves requests with the protocol of its client, and is idle again.
//!
//! Each phase is a future of its own on the heap, so that thousands of idle connections take the memory of an idle
//! connection and not that of hyper.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::idle::{IdleConnection, NextRequest};
use super::in_flight::InFlightPermit;
use super::request_head::{Received, asks_for_stream, is_refused_by_stream};
use super::short_response::write_response_and_close;
use super::worker::Connection;
use super::{http1, http2};
use crate::http::error::Error;

/// How long a request waits for a permit.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest request for a stream that waits for admission before it is parsed. A longer request is parsed first, so
/// that waiting requests take little memory.
const MAX_WAITING_HEAD: usize = 2 * 1_024;

/// Serves a connection until it ends.
pub(super) async fn serve(connection: Connection) {
    let mut idle = IdleConnection::accepted(connection);
    while let Some(request) = idle.next_request().await {
        match Box::pin(serve_request(idle.connection, request)).await {
            Some(answered) => idle = answered,
            None => return,
        }
    }
    debug!("an idle connection ended");
}

/// Serves a request and the requests that follow it closely. Returns the connection once it is idle, or `None` if the
/// connection ended or carries a stream.
async fn serve_request(connection: Connection, request: NextRequest) -> Option<IdleConnection> {
    let NextRequest { bytes, received } = request;
    let mut admitted = None;
    if received == Received::Complete && bytes.len() <= MAX_WAITING_HEAD && asks_for_stream(&bytes)
    {
        admitted = Some(Instant::now());
        wait_for_admission(&connection).await?;
    }
    let active = connection.worker.active.token();
    if received == Received::Http2 {
        Box::pin(http2::serve(connection, bytes, active)).await;
        return None;
    }
    let is_complete = received == Received::Complete;
    let (permit, bytes) = match connection.worker.limits.http1.try_acquire(is_complete) {
        Some(permit) => (permit, bytes),
        None => match Box::pin(wait_for_permit(&connection, bytes, is_complete)).await {
            Wait::Permit(permit, bytes) => (permit, bytes),
            Wait::Gone => return None,
            Wait::Overloaded { wants_stream } => {
                let front = &connection.worker.front;
                let response = front.refusal(Error::Overloaded, wants_stream);
                Box::pin(write_response_and_close(connection.stream, response)).await;
                return None;
            }
        },
    };
    Box::pin(http1::serve(connection, bytes, admitted, permit, active)).await
}

/// The end of a wait for a permit.
enum Wait {
    /// The permit, and the bytes of the request.
    Permit(InFlightPermit, Bytes),
    /// The client is gone.
    Gone,
    /// The wait was too long, or the requests that wait take too much memory.
    Overloaded { wants_stream: bool },
}

/// Waits for a permit for the request that begins with `bytes`. The bytes count as memory of requests without a permit.
async fn wait_for_permit(connection: &Connection, mut bytes: Bytes, is_complete: bool) -> Wait {
    // The copy has no spare capacity.
    bytes = Bytes::copy_from_slice(&bytes);
    let limits = &connection.worker.limits;
    let waiting = limits.unserved.waiting(bytes.len());
    tokio::select! {
        biased;
        permit = limits.http1.acquire(is_complete) => return Wait::Permit(permit, bytes),
        _ = connection.stream.ready(Interest::ERROR) => return Wait::Gone,
        () = waiting.evicted() => {}
        () = sleep(PERMIT_TIMEOUT) => {}
    }
    Wait::Overloaded {
        wants_stream: is_refused_by_stream(&bytes),
    }
}

/// Waits until the client may open its stream. To parse the requests of thousands of clients costs as much as to open
/// their streams, therefore requests wait before they are parsed. Returns `None` if the client is gone. A client that
/// closed only its writing side still waits for its response.
async fn wait_for_admission(connection: &Connection) -> Option<()> {
    tokio::select! {
        biased;
        () = connection.worker.admission.admitted() => Some(()),
        _ = connection.stream.ready(Interest::ERROR) => None,
    }
}
