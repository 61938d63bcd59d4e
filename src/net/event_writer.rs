//! Writes an event stream to a connection that carries nothing else.
//!
//! hyper holds two buffers of 8 KiB and a task of several for each connection; an idle stream needs
//! none of that.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::Version;
use axum::http::response::Parts;
use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::hang_up::HangUp;
use super::head::{Length, head_bytes};
use super::request_limits::MemoryShare;
use super::worker::WorkerContext;
use crate::events::{EventStream, Frame};

/// How much one poll writes, before others get a turn: a reader of a long snapshot may be as fast as this thread.
const WRITTEN_AT_ONCE: usize = 64 * 1_024;

/// Frames that one call to the kernel writes.
const FRAMES_PER_WRITE: usize = 64;

/// Bytes of the frames that are taken from the stream before they are written.
const TAKEN_BYTES: usize = 32 * 1_024;

/// What a stream may hold unsent without a share of the room.
const SMALL: usize = 2 * 1_024;

/// How long a reader may take nothing of what it is sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// The end of a chunked body (RFC 9112, section 7.1).
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// A future that writes a stream until that, its reader or the connection ends. Dropping it closes both.
#[derive(Debug)]
pub(super) struct EventWriter {
    socket: TcpStream,
    events: EventStream,
    host: Arc<WorkerContext>,
    /// HTTP/1.0 knows no chunks; there the end of the connection is the end of the body.
    chunked: bool,
    unsent: Unsent,
    over: bool,
    hang_up: HangUp,
    /// Whether a client that closed its writing side was sent a comment.
    is_probed: bool,
    /// While the connection takes nothing.
    stuck: Option<Box<Stuck>>,
}

/// Bytes that the connection has yet to take. Frames are shared with other streams, not copied.
#[derive(Debug, Default)]
struct Unsent(VecDeque<Bytes>);

/// A reader that does not read.
#[derive(Debug)]
struct Stuck {
    until: Pin<Box<Sleep>>,
    _share: Option<MemoryShare>,
}

/// How far one poll got.
#[derive(Debug, PartialEq, Eq)]
enum Wrote {
    All,
    /// As much as one poll may.
    Enough,
}

impl Unsent {
    /// Sends as much as the connection takes, and no more than the budget, from which it is taken.
    fn poll_sent(
        &mut self,
        socket: &TcpStream,
        budget: &mut usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Wrote>> {
        while !self.0.is_empty() {
            if *budget == 0 {
                return Poll::Ready(Ok(Wrote::Enough));
            }
            match self.try_write(socket, *budget) {
                Ok(count) => {
                    self.advance(count);
                    *budget -= count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(socket.poll_write_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(Wrote::All))
    }

    /// Writes at most `limit` bytes with one call. Returns the number of bytes written.
    fn try_write(&self, socket: &TcpStream, limit: usize) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE];
        let mut count = 0;
        let mut rest = limit;
        for (slice, bytes) in slices.iter_mut().zip(&self.0) {
            let length = bytes.len().min(rest);
            *slice = IoSlice::new(&bytes[..length]);
            rest -= length;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        socket.try_write_vectored(&slices[..count])
    }

    /// Drops bytes that were written.
    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.0.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.0.pop_front();
        }
        // An idle stream keeps no memory for its queue.
        self.0 = VecDeque::new();
    }

    fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl EventWriter {
    /// Answers a request of this version with `head`, then with `events` for a body.
    pub(super) fn new(
        socket: TcpStream,
        hang_up: HangUp,
        host: Arc<WorkerContext>,
        version: Version,
        head: &Parts,
        events: EventStream,
    ) -> Self {
        Self {
            socket,
            events,
            host,
            chunked: version >= Version::HTTP_11,
            unsent: Unsent(VecDeque::from([
                head_bytes(head, version, Length::Unknown).freeze()
            ])),
            over: false,
            hang_up,
            is_probed: false,
            stuck: None,
        }
    }

    /// Takes the next frames from the stream, as many as one write takes. Resolves once there is a
    /// frame or the stream has ended.
    fn poll_taken(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut taken = 0;
        while taken < TAKEN_BYTES && self.unsent.0.len() < FRAMES_PER_WRITE {
            match self.events.poll_next(context) {
                Poll::Ready(Some(frame)) => {
                    let bytes = self.encoded(&frame);
                    taken += bytes.len();
                    self.unsent.0.push_back(bytes);
                }
                Poll::Ready(None) => {
                    self.over = true;
                    self.unsent.0.extend(self.chunked.then_some(LAST_CHUNK));
                    return Poll::Ready(());
                }
                Poll::Pending if self.unsent.0.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(())
    }

    fn encoded(&self, frame: &Frame) -> Bytes {
        if self.chunked {
            frame.chunk()
        } else {
            frame.data()
        }
    }

    /// Resolves once a reader that takes nothing should be given up.
    fn poll_stuck(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // A reader that is stuck does not ask for more, so it would not hear of the end.
        if self.events.poll_closed(context).is_ready() {
            return Poll::Ready(());
        }
        if self.stuck.is_none() {
            let length = self.unsent.len();
            let share = if length <= SMALL {
                None
            } else {
                match self.host.room.unsent(length) {
                    Some(share) => Some(share),
                    None => return Poll::Ready(()),
                }
            };
            self.stuck = Some(Box::new(Stuck {
                until: Box::pin(sleep(PATIENCE)),
                _share: share,
            }));
        }
        match &mut self.stuck {
            Some(stuck) => stuck.until.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl Future for EventWriter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.hang_up.poll(&this.socket, context).is_ready() {
            return Poll::Ready(());
        }
        let mut budget = WRITTEN_AT_ONCE;
        loop {
            let before = budget;
            let sent = this.unsent.poll_sent(&this.socket, &mut budget, context);
            if budget < before {
                this.stuck = None;
            }
            match sent {
                Poll::Ready(Ok(Wrote::All)) if !this.over => {}
                Poll::Ready(Ok(Wrote::Enough)) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => return this.poll_stuck(context),
                Poll::Ready(_) => return Poll::Ready(()),
            }
            match this.poll_taken(context) {
                Poll::Ready(()) => {}
                Poll::Pending if this.hang_up.is_half_closed() && !this.is_probed => {
                    this.is_probed = true;
                    this.unsent.0.push_back(this.encoded(&Frame::COMMENT));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, sink};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_fast_reader_of_much_leaves_others_their_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let reader = TcpStream::connect(address).await.expect("it accepts");
        let (writer, _) = listener.accept().await.expect("a connection");
        let length = 20 * WRITTEN_AT_ONCE;
        let read = tokio::spawn(async move {
            let mut whole = reader.take(length as u64);
            tokio::io::copy(&mut whole, &mut sink()).await
        });
        let frame = Bytes::from(vec![b'x'; length / 128]);
        let mut unsent = Unsent(std::iter::repeat_n(frame, 128).collect());
        let mut polls = 0;
        loop {
            polls += 1;
            let mut budget = WRITTEN_AT_ONCE;
            let sent = poll_fn(|context| unsent.poll_sent(&writer, &mut budget, context));
            if sent.await.expect("it reads") == Wrote::All {
                break;
            }
            assert_eq!(budget, 0, "it stops only after as much as one poll may");
        }
        assert!(polls >= length / WRITTEN_AT_ONCE);
        let read = read.await.expect("no panic").expect("it reads");
        assert_eq!(read, length as u64);
    }
}
