//! A TCP connection that hyper owns and gives back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection that comes back to its [`Home`] when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    /// Taken by the drop alone.
    stream: Option<TcpStream>,
    home: Home,
}

/// What is known of a [`Socket`] from outside, and the connection once that is dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Home(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    returned: Mutex<Option<TcpStream>>,
    /// Whether the last write did not get through, so that its owner holds the rest.
    blocked: AtomicBool,
}

impl Home {
    /// Whether the owner holds bytes that the client has yet to take.
    pub(super) fn is_blocked(&self) -> bool {
        self.0.blocked.load(Ordering::Relaxed)
    }

    /// The connection, after its owner dropped it.
    pub(super) fn returned(&self) -> Option<TcpStream> {
        self.0.returned.lock().take()
    }
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> (Self, Home) {
        let home = Home::default();
        let socket = Self {
            stream: Some(stream),
            home: home.clone(),
        };
        (socket, home)
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let stream = self.stream.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        *self.home.0.returned.lock() = self.stream.take();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(context, bytes);
        let blocked = &self.home.0.blocked;
        blocked.store(written.is_pending(), Ordering::Relaxed);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}
