//! Whether a client that has nothing more to say is still there.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// How much a client may say that has nothing more to say; more is no mistake.
const MOST_PASSED_OVER: usize = 64 * 1_024;

/// How often one poll reads what such a client says, before others get a turn.
const READS_AT_ONCE: usize = 8;

/// How long after the end of what the client says, and then how often, the connection is checked for a reset.
const FIRST_CHECK: Duration = Duration::from_millis(100);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a client said after its request, and whether it closed the connection.
#[derive(Debug, Default)]
pub(super) struct HangUp {
    bytes: usize,
    /// Set once the client has closed its writing side. It may still read, or be gone: only a reset of the
    /// connection, the answer to bytes for a client that is gone, tells.
    next_check: Option<Pin<Box<Sleep>>>,
}

impl HangUp {
    /// Resolves when the client is gone, or says too much. What it says is passed over.
    pub(super) fn poll(&mut self, stream: &TcpStream, context: &mut Context<'_>) -> Poll<()> {
        if self.next_check.is_some() {
            return self.poll_reset(stream, context);
        }
        let mut ignored = [0; 256];
        for _ in 0..READS_AT_ONCE {
            if ready!(stream.poll_read_ready(context)).is_err() {
                return Poll::Ready(());
            }
            match stream.try_read(&mut ignored) {
                Ok(count @ 1..) if self.bytes < MOST_PASSED_OVER => self.bytes += count,
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
