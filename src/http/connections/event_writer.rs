//! Writes an event stream to a connection that carries nothing else.
//!
//! hyper holds two buffers of 8 KiB and a task of several for each connection; an idle stream needs
//! none of that.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use axum::http::Version;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use axum::http::response::Parts;
use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;

use crate::events::EventStream;

/// How much a client may say that has nothing more to say; more is no mistake.
const MOST_PASSED_OVER: usize = 64 * 1_024;

/// How often one poll reads what a client says that has nothing more to say, before others get a turn.
const READS_AT_ONCE: usize = 8;

/// The end of a chunked body (RFC 9112, section 7.1).
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// A future that writes a stream until that, its reader or the connection ends. Dropping it closes both.
#[derive(Debug)]
pub(super) struct EventWriter {
    socket: TcpStream,
    events: EventStream,
    /// HTTP/1.0 knows no chunks; there the end of the connection is the end of the body.
    chunked: bool,
    /// What the connection has yet to take.
    unsent: Bytes,
    over: bool,
    /// How many bytes of the client's were passed over.
    passed_over: usize,
}

impl EventWriter {
    /// Answers a request of this version with `head`, then with `events` for a body.
    pub(super) fn new(
        socket: TcpStream,
        version: Version,
        head: &Parts,
        events: EventStream,
    ) -> Self {
        let chunked = version >= Version::HTTP_11;
        Self {
            socket,
            events,
            chunked,
            unsent: head_bytes(head, chunked),
            over: false,
            passed_over: 0,
        }
    }

    /// Resolves when the client hung up, or says too much. What it says is passed over.
    fn poll_hung_up(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut ignored = [0; 256];
        for _ in 0..READS_AT_ONCE {
            if ready!(self.socket.poll_read_ready(context)).is_err() {
                return Poll::Ready(());
            }
            match self.socket.try_read(&mut ignored) {
                Ok(count @ 1..) if self.passed_over < MOST_PASSED_OVER => self.passed_over += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match self.socket.try_write(&self.unsent) {
                Ok(count) => self.unsent.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Future for EventWriter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.poll_hung_up(context).is_ready() {
            return Poll::Ready(());
        }
        loop {
            match self.poll_sent(context) {
                Poll::Ready(Ok(())) if !self.over => {}
                // A reader that is stuck does not ask for more, so it would not hear of the end.
                Poll::Pending => return self.events.poll_cut_off(context),
                Poll::Ready(_) => return Poll::Ready(()),
            }
            match ready!(self.events.poll_next(context)) {
                Some(bytes) => self.unsent = if self.chunked { chunk(&bytes) } else { bytes },
                None => {
                    self.over = true;
                    self.unsent = if self.chunked {
                        LAST_CHUNK
                    } else {
                        Bytes::new()
                    };
                }
            }
        }
    }
}

/// The head as bytes. The connection ends with the stream, since nobody would read another request.
fn head_bytes(head: &Parts, chunked: bool) -> Bytes {
    let mut bytes = BytesMut::with_capacity(512);
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(head.status.as_str().as_bytes());
    let reason = head.status.canonical_reason().unwrap_or_default();
    bytes.extend_from_slice(format!(" {reason}\r\n").as_bytes());
    for (name, value) in &head.headers {
        if [CONTENT_LENGTH, CONNECTION, DATE, TRANSFER_ENCODING].contains(name) {
            continue;
        }
        header(&mut bytes, name.as_str(), value.as_bytes());
    }
    let date = httpdate::fmt_http_date(SystemTime::now());
    header(&mut bytes, "date", date.as_bytes());
    header(&mut bytes, "connection", b"close");
    if chunked {
        header(&mut bytes, "transfer-encoding", b"chunked");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.freeze()
}

fn header(bytes: &mut BytesMut, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}

/// One chunk of a body (RFC 9112, section 7.1).
fn chunk(bytes: &[u8]) -> Bytes {
    let size = format!("{:x}\r\n", bytes.len());
    let mut chunk = BytesMut::with_capacity(size.len() + bytes.len() + 2);
    for part in [size.as_bytes(), bytes, b"\r\n"] {
        chunk.extend_from_slice(part);
    }
    chunk.freeze()
}
