//! Whether a client that has nothing more to say is still there.

use std::io::ErrorKind;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

/// How much a client may say that has nothing more to say; more is no mistake.
const MOST_PASSED_OVER: usize = 64 * 1_024;

/// How often one poll reads what such a client says, before others get a turn.
const READS_AT_ONCE: usize = 8;

/// What was passed over.
#[derive(Debug, Default)]
pub(super) struct HangUp {
    bytes: usize,
}

impl HangUp {
    /// Resolves when the client hung up, or says too much. What it says is passed over.
    pub(super) fn poll(&mut self, stream: &TcpStream, context: &mut Context<'_>) -> Poll<()> {
        let mut ignored = [0; 256];
        for _ in 0..READS_AT_ONCE {
            if ready!(stream.poll_read_ready(context)).is_err() {
                return Poll::Ready(());
            }
            match stream.try_read(&mut ignored) {
                Ok(count @ 1..) if self.bytes < MOST_PASSED_OVER => self.bytes += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
