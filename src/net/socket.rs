//! A TCP connection as hyper sees it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::activity::RequestActivity;
use super::http2::frames::Frames;
use super::http2::goaway::Goaway;
use super::http2::{HEAD_BYTES, MOST_READ_OF_HEAD};
use super::request_limits::{MemoryShare, RequestLimits};

/// A connection, what was read of it before hyper had it, and what is known of it.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    early: Bytes,
    talk: Arc<RequestActivity>,
    /// On HTTP/2.
    http2: Option<Heads>,
    /// Once the client was told that it sends too much.
    farewell: Option<Goaway>,
}

/// What a connection of HTTP/2 sends of heads.
#[derive(Debug)]
struct Heads {
    frames: Frames,
    room: Arc<RequestLimits>,
    /// RequestLimits for a head that is too large, of which h2 keeps what it has read until the last frame.
    share: Option<MemoryShare>,
}

impl Heads {
    /// Follows what is read. How many bytes of it are of bodies; `None` where there is no room for a long head.
    fn pass(&mut self, bytes: &[u8]) -> Option<usize> {
        let bodies = self.frames.pass(bytes);
        match (self.frames.unfinished_head() > HEAD_BYTES, &self.share) {
            (false, _) => self.share = None,
            (true, None) => self.share = Some(self.room.bulk(MOST_READ_OF_HEAD)?),
            (true, Some(_)) => {}
        }
        Some(bodies)
    }
}

impl Socket {
    pub(super) fn new(stream: TcpStream, early: Bytes, talk: Arc<RequestActivity>) -> Self {
        Self {
            stream,
            early,
            talk,
            http2: None,
            farewell: None,
        }
    }

    /// The same, where HTTP/2 is spoken: what is sent of bodies is no talk.
    pub(super) fn of_frames(self, room: Arc<RequestLimits>) -> Self {
        let heads = Heads {
            frames: Frames::default(),
            room,
            share: None,
        };
        Self {
            http2: Some(heads),
            ..self
        }
    }

    /// The connection, and what was read of it and not yet by hyper.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.early)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(farewell) = &mut this.farewell {
            return Poll::Ready(Err(ready!(farewell.poll_over(&this.stream, context))));
        }
        let filled = buffer.filled().len();
        let read = if this.early.has_remaining() {
            let count = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early.split_to(count));
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut this.stream).poll_read(context, buffer)
        };
        let new = &buffer.filled()[filled..];
        let bodies = match &mut this.http2 {
            None => Some(0),
            Some(heads) => heads.pass(new),
        };
        let why = match bodies {
            Some(bodies) if this.talk.heard(new.len(), bodies) => return read,
            Some(_) => "the client sends too much that is no request",
            None => "there is no room for a long head",
        };
        buffer.set_filled(filled);
        // Where a write is under way, what follows would be taken for the rest of its frame.
        if this.http2.is_some() && !this.talk.is_blocked() {
            this.farewell = Goaway::say(&this.stream);
        }
        match &mut this.farewell {
            Some(farewell) => Poll::Ready(Err(ready!(farewell.poll_over(&this.stream, context)))),
            None => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why))),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.farewell.is_some() {
            // The end comes by a read.
            return Poll::Pending;
        }
        // hyper refuses what is no request with an answer of its own, which has no body.
        if !self.talk.owes_an_answer() && bytes.starts_with(b"HTTP/1.1 4") {
            self.talk.refuse();
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        match &written {
            Poll::Ready(Ok(count)) => self.talk.wrote(*count),
            Poll::Pending => self.talk.set_blocked(),
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.talk.flushed();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
