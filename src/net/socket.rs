//! The TCP connection that hyper reads and writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::activity::RequestActivity;
use super::http2::heads::Heads;
use super::request_limits::RequestLimits;

/// A TCP connection that records its activity.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    /// Bytes that were read before hyper had the connection.
    pub(super) early: Bytes,
    /// Whether hyper refused the bytes that it read.
    pub(super) is_refused: bool,
    activity: Arc<RequestActivity>,
    http2: Option<Http2>,
}

/// What limits the bytes of an HTTP/2 client.
#[derive(Debug)]
struct Http2 {
    heads: Heads,
    flooded: Option<oneshot::Sender<std::net::TcpStream>>,
}

impl Socket {
    pub(super) fn http1(stream: TcpStream, early: Bytes, activity: &Arc<RequestActivity>) -> Self {
        Self {
            stream,
            early,
            is_refused: false,
            activity: Arc::clone(activity),
            http2: None,
        }
    }

    /// An HTTP/2 connection. If the client sends too much, reading fails, and `flooded` gets a copy of the socket,
    /// unless a write stopped in the middle of a frame.
    pub(super) fn http2(
        stream: TcpStream,
        early: Bytes,
        activity: &Arc<RequestActivity>,
        limits: &Arc<RequestLimits>,
        flooded: oneshot::Sender<std::net::TcpStream>,
    ) -> Self {
        let http2 = Http2 {
            heads: Heads::new(limits),
            flooded: Some(flooded),
        };
        Self {
            http2: Some(http2),
            ..Self::http1(stream, early, activity)
        }
    }

    /// Whether the runtime knows that the connection is broken, for example by a reset. Takes no system call. A client
    /// that closed its writing side still waits for its response.
    fn is_broken(&self) -> bool {
        self.stream.try_io(Interest::ERROR, || Ok(())).is_ok()
    }

    /// Records bytes that were read. Fails if the client sends too much.
    fn record_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(http2) = &mut self.http2 else {
            self.activity.record_read(bytes.len(), 0);
            return Ok(());
        };
        let bodies = http2.heads.read(bytes);
        if bodies.is_some_and(|bodies| self.activity.record_read(bytes.len(), bodies)) {
            return Ok(());
        }
        if !self.activity.is_blocked()
            && let Some(flooded) = http2.flooded.take()
        {
            // A failure means that the connection has ended.
            let _ = flooded.send(SockRef::from(&self.stream).try_clone()?.into());
        }
        let why = "the client sends too many bytes besides its requests";
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let read = if self.early.has_remaining() {
            let count = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early.split_to(count));
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        };
        match self.record_read(&buffer.filled()[filled..]) {
            Ok(()) => read,
            Err(error) => {
                buffer.set_filled(filled);
                Poll::Ready(Err(error))
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // hyper refuses invalid requests with a response of its own, which has no body. It is replaced later.
        if !self.activity.owes_response() && bytes.starts_with(b"HTTP/1.1 4") {
            self.is_refused = true;
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        match &written {
            Poll::Ready(Ok(count)) => self.activity.record_write(*count),
            Poll::Pending => self.activity.record_blocked_write(),
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    /// Fails during a long request whose client has reset the connection: hyper flushes whenever it is polled, and the
    /// time limits make sure that it is polled each second.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.record_flush();
        if self.activity.takes_long() && self.is_broken() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
