//! A socket that knows whether a command can have reached the server.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is known about a socket while other parts use it.
#[derive(Debug)]
pub(in crate::store::redis) struct Watch {
    opened: Instant,
    /// How often bytes were about to be given to the kernel.
    writes: AtomicU64,
    /// When the last bytes arrived, in milliseconds after `opened`.
    heard_ms: AtomicU64,
}

/// A TCP connection. It writes nothing to a server that has closed the connection, so a process that was frozen notices
/// the end before it sends a command, and not after. The time of the last bytes from the server does not show the end:
/// bytes that arrived before the freeze may be read after it.
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: TcpStream,
    watch: Arc<Watch>,
}

impl Watch {
    /// How often bytes were given to the kernel. A command that was sent since a call with the same result never ran.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// How long ago the last bytes arrived.
    pub(super) fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(heard)
    }

    fn note_heard(&self) {
        let heard = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(heard, Ordering::Relaxed);
    }
}

impl WatchedStream {
    pub(super) fn new(stream: TcpStream) -> (Self, Arc<Watch>) {
        let watch = Arc::new(Watch {
            opened: Instant::now(),
            writes: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
        });
        let watched = Self {
            stream,
            watch: Arc::clone(&watch),
        };
        (watched, watch)
    }

    /// Whether the server has closed the connection. What it sent before may not be read yet.
    fn is_closed(&self) -> bool {
        // The end of a connection in both directions and errors are always reported.
        #[cfg(target_os = "linux")]
        let flags = PollFlags::RDHUP;
        #[cfg(not(target_os = "linux"))]
        let flags = PollFlags::empty();
        let mut asked = [PollFd::new(&self.stream, flags)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(poll(&mut asked, Some(&at_once)), Ok(1..))
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.watch.note_heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_closed() {
            let why = "the server closed the connection";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, why)));
        }
        // The kernel freezes a process at the end of a system call, so the count must come before the write. A count
        // after the write could come after the freeze, when another command is sent, and this command would look sent.
        self.watch.writes.fetch_add(1, Ordering::Release);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn nothing_is_written_to_a_server_that_has_closed_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (mut stream, watch) = WatchedStream::new(stream);
        let (mut server, _) = listener.accept().await.expect("the connection");
        stream.write_all(b"one").await.expect("sent");
        assert_eq!(watch.writes(), 1);
        // The answer is not read before the next command is sent.
        server.write_all(b"answer").await.expect("answered");
        server.read_exact(&mut [0; 3]).await.expect("read");
        drop(server);
        while !stream.is_closed() {
            tokio::task::yield_now().await;
        }
        let silence = Duration::from_millis(20);
        tokio::time::sleep(silence).await;
        assert!(watch.silence() >= silence);
        let refused = stream.write_all(b"two").await.expect_err("closed");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(watch.writes(), 1);
        // The answer is read late, so the end of the connection is not noticed by the silence.
        stream.read_exact(&mut [0; 6]).await.expect("the answer");
        assert!(watch.silence() < silence);
        stream.write_all(b"three").await.expect_err("closed");
        assert_eq!(watch.writes(), 1);
    }
}
