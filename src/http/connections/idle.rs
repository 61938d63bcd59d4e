//! A connection whose client says nothing: a socket, a timer, and no buffers.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::Held;
use super::host::Host;
use super::http1::Conversation;
use super::http2;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client may take to begin its first request, from the accept on.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection without a request.
pub(super) struct Idle {
    stream: TcpStream,
    host: Arc<Host>,
    held: Held,
    /// Whether it had a request before, by HTTP/1.
    speaks_http1: bool,
    until: Instant,
}

impl Idle {
    /// A connection that was just accepted.
    pub(super) fn accepted(stream: TcpStream, host: Arc<Host>, held: Held) -> Self {
        Self {
            stream,
            host,
            held,
            speaks_http1: false,
            until: Instant::now() + FIRST_REQUEST_TIMEOUT,
        }
    }

    /// An HTTP/1 connection whose requests are answered.
    pub(super) fn answered(stream: TcpStream, host: Arc<Host>, held: Held) -> Self {
        let until = Instant::now() + host.keep_alive;
        Self {
            stream,
            host,
            held,
            speaks_http1: true,
            until,
        }
    }

    /// Waits for a request, which is served by a task of its own; or for too long.
    pub(super) async fn run(self) {
        let mut drain = self.host.drain.clone();
        let early = tokio::select! {
            // What has arrived when the service is to end is served.
            biased;
            early = self.first_bytes() => early,
            // An error means that the other end is gone, and that is the sign.
            _ = drain.changed() => None,
            () = sleep_until(self.until) => None,
        };
        drop(drain);
        let Some(early) = early else {
            debug!("an idle connection ended");
            return;
        };
        let busy = self.host.busy.clone();
        if early == PREFACE {
            tokio::spawn(http2::serve(self.stream, early, self.host, self.held, busy));
            return;
        }
        let place = self.host.room.conversation().await;
        let conversation = Conversation {
            stream: self.stream,
            early,
            host: self.host,
            held: self.held,
            busy,
            place,
        };
        tokio::spawn(conversation.start());
    }

    /// The first bytes, as many as tell which protocol it is; `None` where there are none any more.
    async fn first_bytes(&self) -> Option<Bytes> {
        let mut bytes = [0; PREFACE.len()];
        let mut filled = 0;
        loop {
            self.stream.readable().await.ok()?;
            match self.stream.try_read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return None,
                Ok(count) => {
                    filled += count;
                    let may_be_http2 = !self.speaks_http1 && PREFACE.starts_with(&bytes[..filled]);
                    if count == 0 || filled == PREFACE.len() || !may_be_http2 {
                        return Some(Bytes::copy_from_slice(&bytes[..filled]));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }
}
