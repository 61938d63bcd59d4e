//! Writes an event stream to a connection that carries nothing else.
//!
//! hyper holds two buffers of 8 KiB and a task of several for each connection; an idle stream needs
//! none of that.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::Version;
use axum::http::response::Parts;
use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::hang_up::HangUp;
use super::head::{Length, head_bytes};
use super::host::Host;
use super::room::Share;
use crate::events::EventStream;

/// How much one poll writes, before others get a turn: a reader of a long snapshot may be as fast as this thread.
const WRITTEN_AT_ONCE: usize = 64 * 1_024;

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
    host: Arc<Host>,
    /// HTTP/1.0 knows no chunks; there the end of the connection is the end of the body.
    chunked: bool,
    /// What the connection has yet to take.
    unsent: Bytes,
    over: bool,
    hang_up: HangUp,
    /// While the connection takes nothing.
    stuck: Option<Box<Stuck>>,
}

/// A reader that does not read.
#[derive(Debug)]
struct Stuck {
    until: Pin<Box<Sleep>>,
    _share: Option<Share>,
}

/// How far one poll got.
enum Wrote {
    All,
    /// As much as one poll may.
    Enough,
}

impl EventWriter {
    /// Answers a request of this version with `head`, then with `events` for a body.
    pub(super) fn new(
        socket: TcpStream,
        hang_up: HangUp,
        host: Arc<Host>,
        version: Version,
        head: &Parts,
        events: EventStream,
    ) -> Self {
        Self {
            socket,
            events,
            host,
            chunked: version >= Version::HTTP_11,
            unsent: head_bytes(head, version, Length::Unknown).freeze(),
            over: false,
            hang_up,
            stuck: None,
        }
    }

    fn poll_sent(
        &mut self,
        budget: &mut usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Wrote>> {
        while !self.unsent.is_empty() {
            if *budget == 0 {
                return Poll::Ready(Ok(Wrote::Enough));
            }
            let most = self.unsent.len().min(*budget);
            match self.socket.try_write(&self.unsent[..most]) {
                Ok(count) => {
                    self.unsent.advance(count);
                    *budget -= count;
                    self.stuck = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(Wrote::All))
    }

    /// Resolves once a reader that takes nothing should be given up.
    fn poll_stuck(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // A reader that is stuck does not ask for more, so it would not hear of the end.
        if self.events.poll_cut_off(context).is_ready() {
            return Poll::Ready(());
        }
        if self.stuck.is_none() {
            let share = match self.unsent.len() <= SMALL {
                true => None,
                false => match self.host.room.unsent(self.unsent.len()) {
                    Some(share) => Some(share),
                    None => return Poll::Ready(()),
                },
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
            match this.poll_sent(&mut budget, context) {
                Poll::Ready(Ok(Wrote::All)) if !this.over => {}
                Poll::Ready(Ok(Wrote::Enough)) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => return this.poll_stuck(context),
                Poll::Ready(_) => return Poll::Ready(()),
            }
            match ready!(this.events.poll_next(context)) {
                Some(bytes) => this.unsent = if this.chunked { chunk(&bytes) } else { bytes },
                None => {
                    this.over = true;
                    this.unsent = if this.chunked {
                        LAST_CHUNK
                    } else {
                        Bytes::new()
                    };
                }
            }
        }
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
