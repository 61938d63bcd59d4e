//! A connection without a request: a socket, a timer, and no buffers.

use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::request_head::{Received, received};
use super::worker::Connection;

/// The first bytes of an HTTP/2 client (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client may take to send its first request, from `accept` on.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take for each further head, from its first byte on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take for the rest of a head once the drain has begun.
const DRAIN_HEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an idle connection is kept once the drain has begun, for a request that arrived before: the runtime learns
/// of new bytes only after a while.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a connection is idle before it makes room for a new one.
const LEAST_IDLE_TIME: Duration = Duration::from_secs(1);

/// How long a request waits for its body before it takes a permit.
const BODY_TIMEOUT: Duration = Duration::from_millis(250);

/// The bytes of one read.
const READ_BYTES: usize = 4 * 1_024;

/// A connection that waits for a request.
pub(super) struct IdleConnection {
    pub(super) connection: Connection,
    /// Whether the connection had an HTTP/1 request before.
    speaks_http1: bool,
    /// Bytes of the next request that arrived with the last request.
    early: Bytes,
    since: Instant,
}

/// The first bytes of a request, and how much of the request they are.
pub(super) struct NextRequest {
    pub(super) bytes: Bytes,
    pub(super) received: Received,
}

impl IdleConnection {
    /// A connection that was just accepted.
    pub(super) fn accepted(connection: Connection) -> Self {
        Self {
            connection,
            speaks_http1: false,
            early: Bytes::new(),
            since: Instant::now(),
        }
    }

    /// An HTTP/1 connection whose requests are answered, and the bytes that arrived since.
    pub(super) fn answered(connection: Connection, early: Bytes) -> Self {
        Self {
            connection,
            speaks_http1: true,
            early,
            since: Instant::now(),
        }
    }

    /// When the connection ends if no request arrives.
    fn deadline(&self) -> Instant {
        let time = if self.speaks_http1 {
            self.connection.worker.keep_alive
        } else {
            FIRST_REQUEST_TIMEOUT
        };
        self.since + time
    }

    /// Waits for a request: the head and, if the body is short, also the body. Returns `None` if the connection ends:
    /// after a timeout, in a drain, to make room for a new connection, or because the client closed it.
    pub(super) async fn next_request(&mut self) -> Option<NextRequest> {
        let mut bytes = BytesMut::from(&*std::mem::take(&mut self.early));
        let deadline = self.deadline();
        let stream = &self.connection.stream;
        while bytes.is_empty() {
            tokio::select! {
                biased;
                readable = stream.readable() => readable.ok()?,
                () = self.connection.worker.drain.cancelled() => {
                    timeout(LAST_REQUEST_TIMEOUT, stream.readable()).await.ok()?.ok()?;
                }
                () = self.connection.worker.make_room.notified() => {
                    if self.since.elapsed() >= LEAST_IDLE_TIME {
                        return None;
                    }
                    continue;
                }
                () = sleep_until(deadline) => return None,
            }
            if !read(stream, &mut bytes).ok()? {
                return None;
            }
        }
        match self.received(&bytes) {
            // On the heap: few of the thousands of idle connections are in this state.
            received @ (Received::PartialHead | Received::PartialBody) => {
                Box::pin(self.rest(bytes, received)).await
            }
            received => Some(NextRequest::new(bytes, received)),
        }
    }

    /// Reads the rest of a request. `received` tells how much of it `bytes` are.
    async fn rest(&self, mut bytes: BytesMut, mut received: Received) -> Option<NextRequest> {
        let Connection { stream, worker, .. } = &self.connection;
        let partial = worker.limits.unserved.partial();
        let began = Instant::now();
        let mut is_draining = false;
        let mut deadline = if self.speaks_http1 {
            began + HEAD_TIMEOUT
        } else {
            self.deadline()
        };
        loop {
            let waits_for_body = match received {
                Received::PartialHead => false,
                Received::PartialBody => true,
                _ => return Some(NextRequest::new(bytes, received)),
            };
            partial.set_bytes(bytes.capacity());
            tokio::select! {
                biased;
                () = partial.evicted() => return None,
                readable = stream.readable() => readable.ok()?,
                () = worker.drain.cancelled(), if !is_draining => {
                    is_draining = true;
                    deadline = deadline.min(Instant::now() + DRAIN_HEAD_TIMEOUT);
                    continue;
                }
                () = sleep_until(deadline.min(began + BODY_TIMEOUT)), if waits_for_body => {
                    return Some(NextRequest::new(bytes, received));
                }
                () = sleep_until(deadline) => return None,
            }
            if !read(stream, &mut bytes).ok()? {
                return Some(NextRequest::new(bytes, received));
            }
            received = self.received(&bytes);
        }
    }

    fn received(&self, bytes: &[u8]) -> Received {
        if self.speaks_http1 {
            received(bytes)
        } else if bytes.starts_with(PREFACE) {
            Received::Http2
        } else if PREFACE.starts_with(bytes) {
            Received::PartialHead
        } else {
            received(bytes)
        }
    }
}

impl NextRequest {
    fn new(bytes: BytesMut, received: Received) -> Self {
        let bytes = bytes.freeze();
        Self { bytes, received }
    }
}

/// Reads the bytes that have arrived. Returns whether more may follow.
fn read(stream: &TcpStream, bytes: &mut BytesMut) -> io::Result<bool> {
    let mut buffer = [0; READ_BYTES];
    match stream.try_read(&mut buffer) {
        Ok(count) => {
            bytes.extend_from_slice(&buffer[..count]);
            Ok(count > 0)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}
