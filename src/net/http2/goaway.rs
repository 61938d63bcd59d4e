//! The last words to an HTTP/2 client that floods its connection.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// That the client should be calmer; which of its requests were carried out is left open (RFC 9113, sections 6.8
/// and 7).
const GOAWAY: [u8; 17] = [
    0, 0, 8, 7, 0, 0, 0, 0, 0, // GOAWAY
    0x7f, 0xff, 0xff, 0xff, // the last stream
    0, 0, 0, 0xb, // ENHANCE_YOUR_CALM
];

/// How long, and how far, the connection is read after that: a client that is still sending when the connection is
/// closed might never see it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1_024;

/// A connection whose client was told to go.
#[derive(Debug)]
pub(in crate::net) struct Goaway {
    bytes: usize,
    until: Pin<Box<Sleep>>,
}

impl Goaway {
    /// Tells the client; `None` where it takes nothing now. Everything written before has to be complete.
    pub(in crate::net) fn say(stream: &TcpStream) -> Option<Self> {
        if stream.try_write(&GOAWAY).ok()? != GOAWAY.len() {
            return None;
        }
        SockRef::from(stream).shutdown(Shutdown::Write).ok()?;
        Some(Self {
            bytes: 0,
            until: Box::pin(sleep(LINGER)),
        })
    }

    /// Passes over what the client still sends; resolves when the connection is to be closed.
    pub(in crate::net) fn poll_over(
        &mut self,
        stream: &TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<io::Error> {
        if self.until.as_mut().poll(context).is_ready() {
            return Poll::Ready(too_much());
        }
        let mut ignored = [0; 4_096];
        while self.bytes < LINGER_BYTES {
            if let Err(error) = ready!(stream.poll_read_ready(context)) {
                return Poll::Ready(error);
            }
            match stream.try_read(&mut ignored) {
                Ok(0) => break,
                Ok(count) => self.bytes += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(error),
            }
        }
        Poll::Ready(too_much())
    }
}

/// Why the connection ends.
pub(in crate::net) fn too_much() -> io::Error {
    let why = "the client sends too much that is no request";
    io::Error::new(ErrorKind::InvalidData, why)
}
