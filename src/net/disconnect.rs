//! Detects that the client of a stream has disconnected.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// The most bytes that a client may send after its request. Beyond this limit the connection is closed.
const MAX_IGNORED_BYTES: usize = 64 * 1_024;

/// The reads of one poll, before other tasks get their turn.
const READS_PER_POLL: usize = 8;

/// How long after a client closed its writing side the connection is first checked for a reset, and the time between
/// later checks.
const FIRST_CHECK: Duration = Duration::from_millis(100);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reads and ignores what a client sends after its request, until the client disconnects.
#[derive(Debug, Default)]
pub(super) struct DisconnectWatch {
    ignored: usize,
    /// Timer of the next check for a reset. `None` until the client closes its writing side. Such a client may still
    /// read or may be gone: a client that is gone answers further bytes with a reset of the connection.
    next_check: Option<Pin<Box<Sleep>>>,
}

impl DisconnectWatch {
    /// Resolves when the client is gone or sends too much.
    pub(super) fn poll(&mut self, stream: &TcpStream, context: &mut Context<'_>) -> Poll<()> {
        if self.next_check.is_some() {
            return self.poll_reset(stream, context);
        }
        let mut bytes = [0; 256];
        for _ in 0..READS_PER_POLL {
            if ready!(stream.poll_read_ready(context)).is_err() {
                return Poll::Ready(());
            }
            match stream.try_read(&mut bytes) {
                Ok(count @ 1..) if self.ignored < MAX_IGNORED_BYTES => self.ignored += count,
                Ok(0) => {
                    self.next_check = Some(Box::pin(sleep(FIRST_CHECK)));
                    return self.poll_reset(stream, context);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the client has closed its writing side.
    pub(super) fn is_half_closed(&self) -> bool {
        self.next_check.is_some()
    }

    fn poll_reset(&mut self, stream: &TcpStream, context: &mut Context<'_>) -> Poll<()> {
        while let Some(check) = &mut self.next_check {
            ready!(check.as_mut().poll(context));
            check.as_mut().reset(Instant::now() + CHECK_INTERVAL);
            if !matches!(SockRef::from(stream).take_error(), Ok(None)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
