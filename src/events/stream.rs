//! One open stream: a shared slot that the hub fills and whoever writes the response empties.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::capacity::Place;
use super::hub::Hub;
use crate::presence::{Position, UserId};

/// How many events may wait for a reader before it is cut off. They are shared, so a full queue
/// costs 128 KiB; at a hundred events a second it gives a reader forty seconds.
const LIVE_LIMIT: usize = 4_096;

/// How many bytes one poll hands to the connection at most, to be written with one call.
const BURST_BYTES: usize = 32 * 1_024;

/// Whose events a stream wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Every user's.
    Everyone,
    /// Those of these users, sorted and without repeats.
    Users(Box<[UserId]>),
}

impl Interest {
    /// The events of `users`, who may be in any order and repeat.
    pub fn users(mut users: Vec<UserId>) -> Self {
        users.sort_unstable();
        users.dedup();
        Self::Users(users.into_boxed_slice())
    }

    /// Whether the events of `user` are wanted.
    pub fn includes(&self, user: &UserId) -> bool {
        match self {
            Self::Everyone => true,
            Self::Users(users) => users.binary_search(user).is_ok(),
        }
    }
}

/// Why a stream was ended from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// It reached its age, or the server shuts down; what waits is still delivered.
    Due,
    /// Its reader did not keep up.
    Overflow,
    /// The store failed while the stream was being opened.
    StoreLost,
}

/// What hub and writer share: no timer and no channel, and no task of its own.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) interest: Interest,
    pub(super) snapshot: bool,
    credential: Option<Arc<dyn Credential>>,
    state: Mutex<State>,
}

/// What a stream is opened with.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) interest: Interest,
    pub(super) snapshot: bool,
    /// The first bytes.
    pub(super) head: Bytes,
    /// When it is ended.
    pub(super) closes_at: Instant,
    /// What it needs to go on.
    pub(super) credential: Option<Arc<dyn Credential>>,
}

#[derive(Debug)]
struct State {
    /// Comes before anything live: the head, a replay, a snapshot.
    prologue: VecDeque<Bytes>,
    /// Events in order, from the hub.
    live: VecDeque<Bytes>,
    /// A comment to send when there is nothing else.
    keep_alive: Option<Bytes>,
    /// Everything up to here has been told, or is about to be.
    known: Option<Position>,
    end: Option<End>,
    reader: Option<Waker>,
    feeder: Option<Waker>,
}

impl Slot {
    pub(super) fn new(id: u64, opening: Opening) -> Self {
        let state = State {
            prologue: VecDeque::from([opening.head]),
            live: VecDeque::new(),
            keep_alive: None,
            known: None,
            end: None,
            reader: None,
            feeder: None,
        };
        Self {
            id,
            interest: opening.interest,
            snapshot: opening.snapshot,
            credential: opening.credential,
            state: Mutex::new(state),
        }
    }

    /// Whether its credential counts no longer.
    pub(super) fn is_withdrawn(&self) -> bool {
        let credential = self.credential.as_ref();
        credential.is_some_and(|credential| credential.is_withdrawn())
    }

    /// Begins live delivery: events after `known` are welcome from now on.
    pub(super) fn follow_from(&self, known: Position) {
        self.state.lock().known = Some(known);
    }

    /// Ends live delivery and drops what waits, because the stream starts anew.
    pub(super) fn unfollow(&self) {
        let mut state = self.state.lock();
        state.known = None;
        state.live.clear();
        state.prologue.clear();
    }

    /// Queues what comes before the live events; false when the stream has ended.
    pub(super) fn feed(&self, frames: impl IntoIterator<Item = Bytes>) -> bool {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return false;
        }
        state.prologue.extend(frames);
        wake(&mut state.reader);
        true
    }

    /// Waits until the reader took all that was fed, or the stream ended.
    pub(super) async fn drained(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if state.prologue.is_empty() || state.end.is_some() {
                return Poll::Ready(());
            }
            state.feeder = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Queues one live event. A reader that is too far behind is cut off and resumes by its cursor.
    pub(super) fn push(&self, position: Position, frame: &Bytes) -> Pushed {
        let mut state = self.state.lock();
        if state.end.is_some() || state.known.is_none_or(|known| position <= known) {
            return Pushed::Ignored;
        }
        if state.live.len() >= LIVE_LIMIT {
            state.end(End::Overflow);
            return Pushed::Overflowed;
        }
        state.known = Some(position);
        state.live.push_back(frame.clone());
        wake(&mut state.reader);
        Pushed::Queued
    }

    /// Queues a comment, with a newer cursor where the stream follows and has none newer.
    pub(super) fn keep_alive(&self, newest: Position, moved: &Bytes, comment: &Bytes) {
        let mut state = self.state.lock();
        let idle = state.prologue.is_empty() && state.live.is_empty();
        let frame = match state.known {
            Some(known) if idle && known < newest => {
                state.known = Some(newest);
                moved
            }
            _ => comment,
        };
        state.keep_alive = Some(frame.clone());
        wake(&mut state.reader);
    }

    /// Ends the stream, once.
    pub(super) fn end(&self, end: End) -> bool {
        let mut state = self.state.lock();
        let first = state.end.is_none();
        if first {
            state.end(end);
        }
        first
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    fn poll_cut_off(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.end.is_some_and(|end| end != End::Due) {
            return Poll::Ready(());
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state.lock();
        if let Some(frame) = state.take() {
            return Poll::Ready(Some(frame));
        }
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

/// What became of an event that was offered to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    Ignored,
    Overflowed,
}

impl State {
    fn end(&mut self, end: End) {
        self.end = Some(end);
        if end != End::Due {
            self.prologue = VecDeque::new();
            self.live = VecDeque::new();
        }
        wake(&mut self.reader);
        wake(&mut self.feeder);
    }

    /// What waits, as much of it as goes into one write.
    fn take(&mut self) -> Option<Bytes> {
        let queue = if self.prologue.is_empty() {
            &mut self.live
        } else {
            &mut self.prologue
        };
        let frame = match queue.pop_front() {
            Some(first) => burst(first, queue),
            None => self.keep_alive.take()?,
        };
        if queue.is_empty() {
            *queue = VecDeque::new();
        }
        if self.prologue.is_empty() {
            wake(&mut self.feeder);
        }
        self.keep_alive = None;
        Some(frame)
    }
}

fn burst(first: Bytes, queue: &mut VecDeque<Bytes>) -> Bytes {
    if queue.is_empty() {
        return first;
    }
    let mut bytes = BytesMut::from(&*first);
    while let Some(next) = queue.front() {
        if bytes.len() + next.len() > BURST_BYTES {
            break;
        }
        bytes.extend_from_slice(next);
        queue.pop_front();
    }
    bytes.freeze()
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// What a stream was opened with, where that can be withdrawn before it expires. The stream then ends.
pub trait Credential: Debug + Send + Sync {
    /// Whether the credential counts no more.
    fn is_withdrawn(&self) -> bool;
}

/// The body of a stream's response. Dropping it closes the stream.
#[derive(Debug)]
pub struct EventStream {
    slot: Arc<Slot>,
    hub: Arc<Hub>,
    /// Held until the stream is closed.
    _place: Place,
}

impl EventStream {
    pub(super) fn new(slot: Arc<Slot>, hub: Arc<Hub>, place: Place) -> Self {
        Self {
            slot,
            hub,
            _place: place,
        }
    }

    /// What is to be written next, or `None` at the end.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.slot.poll_next(context)
    }

    /// Resolves once the stream is cut off, for whoever is stuck and does not ask for more.
    pub fn poll_cut_off(&self, context: &mut Context<'_>) -> Poll<()> {
        self.slot.poll_cut_off(context)
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.poll_next(context);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.slot.end(End::Due);
        self.hub.close(&self.slot);
    }
}
