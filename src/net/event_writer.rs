//! Writes a stream to a connection that carries nothing else.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::http::Version;
use axum::http::response::Parts;
use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::disconnect::DisconnectWatch;
use super::request_limits::MemoryShare;
use super::response_head::{Framing, head_bytes};
use super::stream_turns::StreamTurn;
use super::worker::WorkerContext;
use crate::events::{EventStream, Frame};

/// The most bytes that one poll writes, before other tasks get their turn: the reader of a long snapshot may be as fast
/// as this thread.
const BYTES_PER_POLL: usize = 64 * 1_024;

/// The most frames that one system call writes.
const FRAMES_PER_WRITE: usize = 64;

/// The bytes of frames that are taken from the stream before they are written.
const TAKEN_BYTES: usize = 32 * 1_024;

/// The unsent bytes of a stream that take no memory share.
const FREE_BYTES: usize = 2 * 1_024;

/// How long a client may read nothing of what was sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The end of a chunked body (RFC 9112, section 7.1).
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// A future that writes a stream until the stream ends or its client disconnects. Dropping it closes the stream and
/// the connection.
#[derive(Debug)]
pub(super) struct EventWriter {
    socket: TcpStream,
    events: EventStream,
    worker: Arc<WorkerContext>,
    /// HTTP/1.0 has no chunks; there the body ends with the connection.
    is_chunked: bool,
    unsent: Unsent,
    /// `None` before the first poll.
    turn: Option<Arc<StreamTurn>>,
    /// Whether `unsent` has the end of the stream.
    has_ended: bool,
    disconnect: DisconnectWatch,
    /// Whether a comment was sent after the client closed its writing side. The answer to it shows whether the client
    /// is gone.
    is_probed: bool,
    blocked: Option<Box<Blocked>>,
}

/// Bytes that the connection has not taken. Frames are shared with other streams, not copied.
#[derive(Debug, Default)]
struct Unsent(VecDeque<Bytes>);

/// The time limit and the memory of a client that reads nothing.
#[derive(Debug)]
struct Blocked {
    timeout: Pin<Box<Sleep>>,
    _share: Option<MemoryShare>,
}

/// How far one poll got.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    All,
    /// As many bytes as one poll may write.
    Budget,
}

impl Unsent {
    /// Sends what the connection takes, at most `budget` bytes, and reduces `budget` by it.
    fn poll_send(
        &mut self,
        socket: &TcpStream,
        budget: &mut usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Sent>> {
        while !self.0.is_empty() {
            if *budget == 0 {
                return Poll::Ready(Ok(Sent::Budget));
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
        Poll::Ready(Ok(Sent::All))
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
    /// Answers a request of this version with `head`, and with `events` as the body.
    pub(super) fn new(
        socket: TcpStream,
        disconnect: DisconnectWatch,
        worker: Arc<WorkerContext>,
        version: Version,
        head: &Parts,
        events: EventStream,
    ) -> Self {
        let is_chunked = version >= Version::HTTP_11;
        let framing = if is_chunked {
            Framing::Chunked
        } else {
            Framing::UntilClose
        };
        let head = head_bytes(head, framing).freeze();
        Self {
            socket,
            events,
            worker,
            is_chunked,
            turn: None,
            unsent: Unsent(VecDeque::from([head])),
            has_ended: false,
            disconnect,
            is_probed: false,
            blocked: None,
        }
    }

    /// Takes the next frames from the stream, as many as one system call writes. Resolves once there is a frame or the
    /// stream has ended.
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut taken = 0;
        while taken < TAKEN_BYTES && self.unsent.0.len() < FRAMES_PER_WRITE {
            match self.events.poll_next(context) {
                Poll::Ready(Some(frame)) => {
                    let bytes = self.encoded(&frame);
                    taken += bytes.len();
                    self.unsent.0.push_back(bytes);
                }
                Poll::Ready(None) => {
                    self.has_ended = true;
                    self.unsent.0.extend(self.is_chunked.then_some(LAST_CHUNK));
                    return Poll::Ready(());
                }
                Poll::Pending if self.unsent.0.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(())
    }

    /// Returns a waker that queues this writer for its turn.
    fn turn(&mut self, context: &Context<'_>) -> Waker {
        let task = context.waker();
        let turn = match self.turn.take() {
            Some(turn) if turn.is_of(task) => turn,
            _ => self.worker.turns.of(task),
        };
        Waker::from(Arc::clone(self.turn.insert(turn)))
    }

    fn encoded(&self, frame: &Frame) -> Bytes {
        if self.is_chunked {
            frame.chunk()
        } else {
            frame.data()
        }
    }

    /// Resolves once a client that reads nothing must be cut off.
    fn poll_blocked(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // A blocked writer takes no frames, and so does not see the end of the stream.
        if self.events.poll_closed(context).is_ready() {
            return Poll::Ready(());
        }
        let blocked = match &mut self.blocked {
            Some(blocked) => blocked,
            none => {
                let length = self.unsent.len();
                let share = if length > FREE_BYTES {
                    let Some(share) = self.worker.limits.unsent(length) else {
                        return Poll::Ready(());
                    };
                    Some(share)
                } else {
                    None
                };
                none.insert(Box::new(Blocked {
                    timeout: Box::pin(sleep(WRITE_TIMEOUT)),
                    _share: share,
                }))
            }
        };
        blocked.timeout.as_mut().poll(context)
    }
}

impl Future for EventWriter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.disconnect.poll(&this.socket, context).is_ready() {
            return Poll::Ready(());
        }
        let turn = this.turn(context);
        let in_turn = &mut Context::from_waker(&turn);
        let mut budget = BYTES_PER_POLL;
        loop {
            let before = budget;
            let sent = this.unsent.poll_send(&this.socket, &mut budget, context);
            if budget < before {
                this.blocked = None;
            }
            match sent {
                Poll::Ready(Ok(Sent::All)) if !this.has_ended => {}
                Poll::Ready(Ok(Sent::Budget)) => {
                    turn.wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => return this.poll_blocked(in_turn),
                Poll::Ready(_) => return Poll::Ready(()),
            }
            match this.poll_take(in_turn) {
                Poll::Ready(()) => {}
                Poll::Pending if this.disconnect.is_half_closed() && !this.is_probed => {
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
    async fn a_long_write_yields_to_other_tasks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let reader = TcpStream::connect(address).await.expect("a connection");
        let (writer, _) = listener.accept().await.expect("a connection");
        let length = 20 * BYTES_PER_POLL;
        let read = tokio::spawn(async move {
            let mut whole = reader.take(length as u64);
            tokio::io::copy(&mut whole, &mut sink()).await
        });
        let frame = Bytes::from(vec![b'x'; length / 128]);
        let mut unsent = Unsent(std::iter::repeat_n(frame, 128).collect());
        let mut polls = 0;
        loop {
            polls += 1;
            let mut budget = BYTES_PER_POLL;
            let sent = poll_fn(|context| unsent.poll_send(&writer, &mut budget, context));
            if sent.await.expect("a write") == Sent::All {
                break;
            }
            assert_eq!(budget, 0, "a poll stops early only at its budget");
        }
        assert!(polls >= length / BYTES_PER_POLL);
        let read = read.await.expect("no panic").expect("a read");
        assert_eq!(read, length as u64);
    }
}
