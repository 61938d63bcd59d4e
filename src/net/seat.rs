//! A stream that waits to be opened, or is open, without hyper.
//!
//! hyper holds two buffers of 8 KiB and a task of several for each connection. A request for a stream that has been
//! read whole needs none of that: its handler takes the connection from hyper, and thousands can wait for their
//! turn. What needs hyper after all, like a refusal of the credential, is answered before.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{Request, Response, Version};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ConnectionGuard;
use super::event_writer::EventWriter;
use super::hang_up::HangUp;
use super::short_response::say_and_close;
use super::worker::{Busy, WorkerContext};
use crate::events::EventStream;
use crate::http::error::panicked;

/// What the handler of a stream has of its connection, where that has nothing else to carry.
#[derive(Clone, Debug)]
pub(crate) struct Seat(Arc<Seated>);

#[derive(Debug)]
struct Seated {
    /// To hyper's service, until it was told something.
    told: Mutex<Option<oneshot::Sender<Told>>>,
    /// Where the connection comes from, once hyper's service was told to leave.
    outside: Mutex<Option<oneshot::Receiver<Outside>>>,
    /// When the client asked, if it has waited for the clients that came before.
    admitted: Option<Instant>,
    stream: Mutex<Option<EventStream>>,
}

/// What hyper's service is told.
#[derive(Debug)]
pub(super) enum Told {
    /// The answer.
    Answer(Response<Body>),
    /// That the connection is to be taken from hyper, and handed to this.
    Leave(oneshot::Sender<Outside>),
}

/// A connection that was taken from hyper, and what is held for it.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) stream: TcpStream,
    pub(super) held: ConnectionGuard,
    pub(super) busy: Busy,
}

impl Seat {
    /// Takes the connection from hyper. What is answered from now on is a stream, or ends the connection.
    pub(crate) fn leave_hyper(&self) {
        if let Some(told) = self.0.told.lock().take() {
            let (door, outside) = oneshot::channel();
            *self.0.outside.lock() = Some(outside);
            // Where the service is gone, so is the client, and the outside says so.
            let _ = told.send(Told::Leave(door));
        }
    }

    /// When the client asked, if it has waited for the clients that came before.
    pub(crate) fn admitted(&self) -> Option<Instant> {
        self.0.admitted
    }

    /// Takes the stream; the response that goes with it is to have no body.
    pub(crate) fn take(&self, stream: EventStream) {
        *self.0.stream.lock() = Some(stream);
    }
}

/// Answers a request, which may be for a stream, in a task of its own. What this returns is what hyper's service is
/// to do. A client that has waited for the clients that came before was `admitted`, and asked at that time.
pub(super) fn answer_apart(
    host: &Arc<WorkerContext>,
    mut request: Request<Body>,
    admitted: Option<Instant>,
) -> oneshot::Receiver<Told> {
    let (told, telling) = oneshot::channel();
    let seat = Seat(Arc::new(Seated {
        told: Mutex::new(Some(told)),
        outside: Mutex::default(),
        admitted,
        stream: Mutex::default(),
    }));
    let version = request.version();
    request.extensions_mut().insert(seat.clone());
    let answer = AssertUnwindSafe(host.front.answer(request)).catch_unwind();
    let of_panic = Arc::clone(host);
    let refusal = move |cause| of_panic.front.refusal(panicked(cause));
    let answer = answer.map(|answer| answer.unwrap_or_else(refusal));
    tokio::spawn(answer_and_write(Arc::clone(host), seat, version, answer));
    telling
}

async fn answer_and_write(
    host: Arc<WorkerContext>,
    seat: Seat,
    version: Version,
    answer: impl Future<Output = Response<Body>>,
) {
    let mut place = Place::Inside;
    let answered = {
        let mut answer = pin!(answer);
        poll_fn(|context| match answer.as_mut().poll(context) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending => place.poll_gone(&seat, context).map(|()| None),
        })
        .await
    };
    let Some(answered) = answered else {
        return;
    };
    let told = seat.0.told.lock().take();
    if let Some(told) = told {
        // Where nobody is told, the client is gone.
        let _ = told.send(Told::Answer(answered));
        return;
    }
    let outside = poll_fn(|context| place.poll_outside(&seat, context)).await;
    let Some((outside, hang_up)) = outside else {
        return;
    };
    let stream = seat.0.stream.lock().take();
    match stream {
        Some(stream) if answered.status().is_success() => {
            let head = answered.into_parts().0;
            let writer = EventWriter::new(outside.stream, hang_up, host, version, &head, stream);
            let held = (outside.held, outside.busy);
            // In a task of its own, because this one keeps the size it had for the handler.
            tokio::spawn(async move {
                // Given up after the connection, which the writer holds.
                let _held = held;
                writer.await;
            });
        }
        // Apart, because this task waits in thousands, and seldom comes here.
        _ => Box::pin(say_and_close(outside.stream, version, answered)).await,
    }
}

/// Where the connection is.
enum Place {
    /// With hyper.
    Inside,
    /// On its way.
    Leaving(oneshot::Receiver<Outside>),
    /// Here.
    Outside(Option<(Outside, HangUp)>),
}

impl Place {
    /// Resolves once the client is gone.
    fn poll_gone(&mut self, seat: &Seat, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self {
                Self::Inside => {
                    if let Some(told) = seat.0.told.lock().as_mut() {
                        return told.poll_closed(context);
                    }
                    let Some(outside) = seat.0.outside.lock().take() else {
                        return Poll::Pending;
                    };
                    *self = Self::Leaving(outside);
                }
                Self::Leaving(outside) => match ready!(Pin::new(outside).poll(context)) {
                    Ok(outside) => *self = Self::Outside(Some((outside, HangUp::default()))),
                    Err(_) => return Poll::Ready(()),
                },
                Self::Outside(Some((outside, hang_up))) => {
                    return hang_up.poll(&outside.stream, context);
                }
                Self::Outside(None) => return Poll::Ready(()),
            }
        }
    }

    /// The connection, or nothing if the client is gone.
    fn poll_outside(
        &mut self,
        seat: &Seat,
        context: &mut Context<'_>,
    ) -> Poll<Option<(Outside, HangUp)>> {
        let gone = self.poll_gone(seat, context).is_ready();
        match self {
            _ if gone => Poll::Ready(None),
            Self::Outside(here) => Poll::Ready(here.take()),
            Self::Inside | Self::Leaving(_) => Poll::Pending,
        }
    }
}
