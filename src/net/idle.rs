//! A connection whose client says nothing: a socket, a timer, and no buffers.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Version;
use bytes::{Bytes, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::ConnectionGuard;
use super::http1::Conversation;
use super::http2;
use super::request_head::{Missing, asks_for_a_stream, is_open_ended, missing};
use super::short_response::say_and_close;
use super::worker::WorkerContext;
use crate::http::error::Error;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client may take to begin its first request, from the accept on.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take for each further head, from its first byte on; and when the service is to end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const LAST_HEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a body is waited for without a place.
const BODY_WAIT: Duration = Duration::from_millis(250);

/// How long a request may wait for a place.
const PLACE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a head may be that waits to be parsed; a longer one is parsed first, so that what waits is small.
const WAITING_HEAD: usize = 2 * 1_024;

/// How much is read at once.
const READ_BYTES: usize = 4 * 1_024;

/// What has arrived.
enum Arrived {
    Http2(Bytes),
    /// A request with its body, as far as can be told without reading it.
    Request(Bytes),
    /// A head whose body is on its way.
    Beginning(Bytes),
}

/// What was read.
#[derive(PartialEq)]
enum Read {
    Some,
    End,
}

/// A connection without a request.
pub(super) struct IdleConnection {
    stream: TcpStream,
    host: Arc<WorkerContext>,
    held: ConnectionGuard,
    /// Whether it had a request before, by HTTP/1.
    speaks_http1: bool,
    /// What was read of the next request.
    early: Bytes,
    until: Instant,
}

impl IdleConnection {
    /// A connection that was just accepted.
    pub(super) fn accepted(
        stream: TcpStream,
        host: Arc<WorkerContext>,
        held: ConnectionGuard,
    ) -> Self {
        Self {
            stream,
            host,
            held,
            speaks_http1: false,
            early: Bytes::new(),
            until: Instant::now() + FIRST_REQUEST_TIMEOUT,
        }
    }

    /// An HTTP/1 connection whose requests are answered, and what was read since.
    pub(super) fn answered(
        stream: TcpStream,
        early: Bytes,
        host: Arc<WorkerContext>,
        held: ConnectionGuard,
    ) -> Self {
        let until = Instant::now() + host.keep_alive;
        Self {
            stream,
            host,
            held,
            speaks_http1: true,
            early,
            until,
        }
    }

    /// Waits for a request, which is served by a task of its own; or for too long.
    pub(super) async fn run(mut self) {
        let Some(arrived) = self.request().await else {
            debug!("an idle connection ended");
            return;
        };
        let is_for_a_stream = match &arrived {
            Arrived::Request(early) => early.len() <= WAITING_HEAD && asks_for_a_stream(early),
            _ => false,
        };
        let asked = is_for_a_stream.then(Instant::now);
        if is_for_a_stream && !Box::pin(self.is_admitted()).await {
            return;
        }
        // Apart, because this task has the size of an idle connection, and there are thousands.
        Box::pin(self.serve(arrived, asked)).await;
    }

    /// Waits until the client may open its stream; false if it is gone. To parse the requests of a crowd costs as
    /// much as to open their streams, so they wait here. A client that only closes its writing side still waits for
    /// its answer.
    async fn is_admitted(&self) -> bool {
        tokio::select! {
            biased;
            () = self.host.admission.admitted() => true,
            _ = self.stream.ready(Interest::ERROR) => false,
        }
    }

    /// Leaves what has arrived to a task of its own, once it has a place.
    async fn serve(self, arrived: Arrived, admitted: Option<Instant>) {
        let busy = self.host.busy.clone();
        let (early, is_complete) = match arrived {
            Arrived::Http2(early) => {
                tokio::spawn(http2::serve(self.stream, early, self.host, self.held, busy));
                return;
            }
            Arrived::Request(early) => (early, true),
            Arrived::Beginning(early) => (early, false),
        };
        let place = tokio::select! {
            biased;
            place = self.host.room.places.take(is_complete) => place,
            _ = self.stream.ready(Interest::ERROR) => return,
            () = sleep(PLACE_TIMEOUT) => {
                let answer = self.host.front.refusal(Error::Overloaded);
                say_and_close(self.stream, Version::HTTP_11, answer).await;
                return;
            }
        };
        let conversation = Conversation {
            stream: self.stream,
            early,
            admitted,
            host: self.host,
            held: self.held,
            busy,
            place,
        };
        tokio::spawn(conversation.start());
    }

    /// What is asked next, as far as it is to be waited for without a place; `None` where nothing is.
    async fn request(&mut self) -> Option<Arrived> {
        let mut drain = self.host.drain.clone();
        let mut bytes = BytesMut::from(&*std::mem::take(&mut self.early));
        while bytes.is_empty() {
            tokio::select! {
                // What has arrived when the service is to end is served.
                biased;
                readable = self.stream.readable() => readable.ok()?,
                // An error means that the other end is gone, and that is the sign.
                _ = drain.changed() => return None,
                () = sleep_until(self.until) => return None,
            }
            if read(&self.stream, &mut bytes)? == Read::End {
                return None;
            }
        }
        match self.missing(&bytes) {
            Missing::Nothing => Some(self.arrived(bytes)),
            // Apart, because thousands of connections are idle, and few of them are here.
            _ => Box::pin(self.rest(bytes, drain)).await,
        }
    }

    /// Reads on until the request has arrived.
    async fn rest(&self, mut bytes: BytesMut, mut drain: watch::Receiver<()>) -> Option<Arrived> {
        let part = self.host.room.gathering.begin();
        let began = Instant::now();
        let mut is_draining = false;
        let mut until = match self.speaks_http1 {
            true => began + HEAD_TIMEOUT,
            false => self.until,
        };
        loop {
            let waits_for_body = match self.missing(&bytes) {
                Missing::Nothing => return Some(self.arrived(bytes)),
                Missing::Body => true,
                Missing::Head => false,
            };
            let body_until = until.min(began + BODY_WAIT);
            part.takes(bytes.capacity());
            tokio::select! {
                biased;
                () = part.cut_off() => return None,
                readable = self.stream.readable() => readable.ok()?,
                _ = drain.changed(), if !is_draining => {
                    is_draining = true;
                    until = until.min(Instant::now() + LAST_HEAD_TIMEOUT);
                    continue;
                }
                () = sleep_until(body_until), if waits_for_body => {
                    return Some(Arrived::Beginning(bytes.freeze()));
                }
                () = sleep_until(until) => return None,
            }
            if read(&self.stream, &mut bytes)? == Read::End {
                return Some(self.arrived(bytes));
            }
        }
    }

    fn arrived(&self, bytes: BytesMut) -> Arrived {
        let early = bytes.freeze();
        if !self.speaks_http1 && early.starts_with(PREFACE) {
            return Arrived::Http2(early);
        }
        match is_open_ended(&early) {
            true => Arrived::Beginning(early),
            false => Arrived::Request(early),
        }
    }

    fn missing(&self, bytes: &[u8]) -> Missing {
        if !self.speaks_http1 && bytes.starts_with(PREFACE) {
            return Missing::Nothing;
        }
        if !self.speaks_http1 && PREFACE.starts_with(bytes) {
            return Missing::Head;
        }
        missing(bytes)
    }
}

/// Reads what is there, at most as much as it takes to know more.
fn read(stream: &TcpStream, bytes: &mut BytesMut) -> Option<Read> {
    let mut buffer = [0; READ_BYTES];
    match stream.try_read(&mut buffer) {
        Ok(0) => Some(Read::End),
        Ok(count) => {
            bytes.extend_from_slice(&buffer[..count]);
            Some(Read::Some)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(Read::Some),
        Err(_) => None,
    }
}
