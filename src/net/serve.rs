//! The life of a connection: it is idle, then serves requests with the protocol of its client, and is idle again.
//!
//! Each phase is a future of its own on the heap, so that thousands of idle connections take the memory of an idle
//! connection and not that of hyper.

use std::time::Duration;

use axum::http::Version;
use tokio::io::Interest;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::idle::{IdleConnection, NextRequest};
use super::request_head::{Received, asks_for_stream};
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
    let in_flight = &connection.worker.limits.http1;
    let permit = tokio::select! {
        biased;
        permit = in_flight.acquire(received == Received::Complete) => permit,
        _ = connection.stream.ready(Interest::ERROR) => return None,
        () = sleep(PERMIT_TIMEOUT) => {
            let response = connection.worker.front.refusal(Error::Overloaded);
            Box::pin(write_response_and_close(connection.stream, Version::HTTP_11, response)).await;
            return None;
        }
    };
    Box::pin(http1::serve(connection, bytes, admitted, permit, active)).await
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
