//! What the hub and whoever writes a response share of one stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::frame::{self, KEEP_ALIVE};
use super::payload::EndReason;
use super::stream::{Credential, Interest};
use crate::presence::Position;

/// How many events may wait for a reader before it is cut off. They are shared, so a full queue
/// costs 128 KiB; at a hundred events a second it gives a reader forty seconds.
const LIVE_LIMIT: usize = 4_096;

/// How many bytes one poll hands to the connection at most, to be written with one call.
const BURST_BYTES: usize = 32 * 1_024;

/// After so many keep-alives in a row, about a minute, a stream is told a newer cursor.
const QUIET_ROUNDS: u8 = 6;

/// One stream: no timer and no channel, and no task of its own.
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
    /// When it is ended, and the reason it is told then.
    pub(super) closes: (Instant, EndReason),
    /// What it needs to go on.
    pub(super) credential: Option<Arc<dyn Credential>>,
}

#[derive(Debug)]
struct State {
    /// Comes before anything live: a replay, a snapshot, and that the stream has caught up.
    prologue: VecDeque<Bytes>,
    /// Events in order, from the hub.
    live: VecDeque<Bytes>,
    /// Whether to send a comment when there is nothing else.
    comment: bool,
    /// Whether the reader was told when to reconnect.
    greeted: bool,
    /// Whether the reader was told that it has caught up.
    caught_up: bool,
    /// Everything up to here has been told, or is about to be.
    known: Option<Position>,
    /// How many keep-alives came since the last message.
    quiet: u8,
    stage: Stage,
    reader: Option<Waker>,
    feeder: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The reader takes what waits, and then the reason.
    Ending(EndReason),
    /// The reader was told the reason.
    Told,
    /// The reader gets nothing more.
    Over,
}

/// What became of an event that was offered to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    Ignored,
    Overflowed,
}

impl Slot {
    pub(super) fn new(id: u64, opening: Opening) -> Self {
        let state = State {
            prologue: VecDeque::new(),
            live: VecDeque::new(),
            comment: true,
            greeted: false,
            caught_up: false,
            known: None,
            quiet: 0,
            stage: Stage::Open,
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

    /// Begins live delivery: events after `known` are welcome from now on. A reader who was not
    /// told yet that it has caught up is told by `ready`.
    pub(super) fn follow_from(&self, known: Position, ready: impl FnOnce() -> Bytes) {
        let mut state = self.state.lock();
        state.known = Some(known);
        if !state.caught_up && state.is_open() {
            state.caught_up = true;
            state.prologue.push_back(ready());
            state.quiet = 0;
            wake(&mut state.reader);
        }
    }

    /// Ends live delivery and drops what waits, because the stream starts anew.
    pub(super) fn unfollow(&self) {
        let mut state = self.state.lock();
        state.known = None;
        state.caught_up = false;
        state.live.clear();
        state.prologue.clear();
    }

    /// Queues what comes before the live events; false when the stream has ended.
    pub(super) fn feed(&self, frames: impl IntoIterator<Item = Bytes>) -> bool {
        let mut state = self.state.lock();
        if !state.is_open() {
            return false;
        }
        state.prologue.extend(frames);
        wake(&mut state.reader);
        true
    }

    /// Queues the last of a snapshot, which says that the stream has caught up.
    pub(super) fn feed_ready(&self, ready: Bytes) -> bool {
        self.state.lock().caught_up = true;
        self.feed([ready])
    }

    /// Waits until the reader took all that was fed, or the stream ended.
    pub(super) async fn drained(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if state.prologue.is_empty() || !state.is_open() {
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
        if !state.is_open() || state.known.is_none_or(|known| position <= known) {
            return Pushed::Ignored;
        }
        if state.live.len() >= LIVE_LIMIT {
            state.end(EndReason::TooSlow);
            return Pushed::Overflowed;
        }
        state.known = Some(position);
        state.quiet = 0;
        state.live.push_back(frame.clone());
        wake(&mut state.reader);
        Pushed::Queued
    }

    /// Queues a comment or, where the stream has had no message for long, `ready` with the newest
    /// cursor.
    pub(super) fn keep_alive(&self, newest: Position, ready: Option<&Bytes>) {
        let mut state = self.state.lock();
        if !state.prologue.is_empty() || !state.live.is_empty() {
            state.quiet = 0;
            return;
        }
        state.quiet = state.quiet.saturating_add(1);
        let is_behind = state.known.is_some_and(|known| known < newest);
        match ready {
            Some(ready) if is_behind && state.quiet >= QUIET_ROUNDS && state.is_open() => {
                state.known = Some(newest);
                state.quiet = 0;
                state.live.push_back(ready.clone());
            }
            _ => state.comment = true,
        }
        wake(&mut state.reader);
    }

    /// Ends the stream, once: the reason is the last it is told.
    pub(super) fn end(&self, reason: EndReason) -> bool {
        let mut state = self.state.lock();
        let first = state.is_open();
        if first {
            state.end(reason);
        }
        first
    }

    /// Drops what the reader of an ended stream has not taken; only the reason is left to tell.
    pub(super) fn drop_queues(&self) {
        self.state.lock().drop_queues();
    }

    /// The reader of an ended stream gets nothing more.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        state.stage = Stage::Over;
        state.drop_queues();
        wake(&mut state.reader);
        wake(&mut state.feeder);
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.state.lock().is_open()
    }

    pub(super) fn poll_cut_off(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.stage == Stage::Over {
            return Poll::Ready(());
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state.lock();
        if let Some(bytes) = state.take() {
            return Poll::Ready(Some(bytes));
        }
        if !state.is_open() {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl State {
    fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    fn end(&mut self, reason: EndReason) {
        self.stage = Stage::Ending(reason);
        if !reason.delivers_what_waits() {
            self.drop_queues();
        }
        wake(&mut self.reader);
        wake(&mut self.feeder);
    }

    fn drop_queues(&mut self) {
        self.prologue = VecDeque::new();
        self.live = VecDeque::new();
    }

    /// What waits, as much of it as goes into one write; at the end the reason.
    fn take(&mut self) -> Option<Bytes> {
        let queue = if self.prologue.is_empty() {
            &mut self.live
        } else {
            &mut self.prologue
        };
        let bytes = match queue.pop_front() {
            Some(first) => {
                let bytes = burst(first, queue);
                if queue.is_empty() {
                    *queue = VecDeque::new();
                }
                bytes
            }
            None => self.when_nothing_waits()?,
        };
        if self.prologue.is_empty() {
            wake(&mut self.feeder);
        }
        self.comment = false;
        Some(bytes).map(|bytes| self.greet(bytes))
    }

    fn when_nothing_waits(&mut self) -> Option<Bytes> {
        match self.stage {
            Stage::Open if self.comment => Some(KEEP_ALIVE),
            Stage::Ending(reason) => {
                self.stage = Stage::Told;
                Some(frame::end(reason).into())
            }
            Stage::Open | Stage::Told | Stage::Over => None,
        }
    }

    /// Says when to reconnect in the first block that has data.
    fn greet(&mut self, bytes: Bytes) -> Bytes {
        if self.greeted || bytes == KEEP_ALIVE {
            return bytes;
        }
        self.greeted = true;
        let mut greeted = BytesMut::from(frame::retry().as_bytes());
        greeted.extend_from_slice(&bytes);
        greeted.freeze()
    }
}

fn burst(first: Bytes, queue: &mut VecDeque<Bytes>) -> Bytes {
    match queue.front() {
        Some(next) if first.len() + next.len() <= BURST_BYTES => {}
        _ => return first,
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
