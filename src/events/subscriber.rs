//! What the hub and whoever writes a response share of one stream.

pub(super) mod queue_memory;
mod state;

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::queue_memory::QueueMemory;
use self::state::{Stage, State, wake};
use super::interest::{GroupId, Interest};
use super::sse::payload::EndReason;
use crate::model::Credential;
use crate::model::Position;

/// How many events may wait for a reader before it is cut off. They are shared, so a full queue
/// costs 128 KiB; at a hundred events a second it gives a reader forty seconds. Where many readers are slow,
/// [`QueueMemory`] cuts them off sooner.
const LIVE_LIMIT: usize = 4_096;

/// After so many keep-alives in a row, about a minute, a stream is told a newer cursor.
const QUIET_ROUNDS: u8 = 6;

/// One stream: no timer and no channel, and no task of its own.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) id: u64,
    /// The group of those who have the same interest.
    pub(super) group: GroupId,
    pub(super) interest: Interest,
    pub(super) snapshot: bool,
    credential: Option<Arc<dyn Credential>>,
    state: Mutex<State>,
}

/// What a stream is opened with.
#[derive(Debug)]
pub(super) struct SubscriberOptions {
    pub(super) interest: Interest,
    pub(super) snapshot: bool,
    /// When it is ended, and the reason it is told then.
    pub(super) closes: (Instant, EndReason),
    /// What the stream was opened with, if that can be withdrawn.
    pub(super) credential: Option<Arc<dyn Credential>>,
}

/// What became of an event that was offered to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    Ignored,
    Overflowed,
}

impl Subscriber {
    pub(super) fn new(
        id: u64,
        group: GroupId,
        interest: Interest,
        opening: SubscriberOptions,
        waiting: &Arc<QueueMemory>,
    ) -> Self {
        Self {
            id,
            group,
            interest,
            snapshot: opening.snapshot,
            credential: opening.credential,
            state: Mutex::new(State::new(waiting)),
        }
    }

    /// Begins live delivery: events after `known` are welcome from now on. A reader who was not
    /// told yet that it has caught up is told by `ready`.
    pub(super) fn follow(
        &self,
        generation: u64,
        known: Position,
        missed: Vec<Bytes>,
        ready: impl FnOnce() -> Bytes,
    ) {
        let mut state = self.state.lock();
        if state.is_open() && !missed.is_empty() {
            state.backlog.extend(missed);
            wake(&mut state.reader);
        }
        state.known = Some((generation, known));
        if !state.ready_sent && state.is_open() {
            state.ready_sent = true;
            state.backlog.push_back(ready());
            state.quiet = 0;
            wake(&mut state.reader);
        }
    }

    /// Drops what waits, because the stream starts anew.
    pub(super) fn reset(&self) {
        self.state.lock().reset();
    }

    /// Ends live delivery where it is of an earlier generation, and drops what waits; false where
    /// the stream does not follow, or follows this generation already.
    pub(super) fn detach_before(&self, generation: u64) -> bool {
        let mut state = self.state.lock();
        let earlier = state.known.is_some_and(|(known, _)| known < generation);
        if earlier {
            state.reset();
        }
        earlier
    }

    /// Queues what comes before the live events; false when the stream has ended.
    pub(super) fn feed(&self, frames: impl IntoIterator<Item = Bytes>) -> bool {
        let mut state = self.state.lock();
        if !state.is_open() {
            return false;
        }
        state.backlog.extend(frames);
        wake(&mut state.reader);
        true
    }

    /// Queues messages that were written for this stream alone; false when the stream has ended,
    /// also because too much waits in all streams.
    pub(super) fn feed_own(&self, messages: Bytes) -> bool {
        let mut state = self.state.lock();
        if !state.is_open() {
            return false;
        }
        state.unshared_bytes += messages.len();
        state.backlog.push_back(messages);
        wake(&mut state.reader);
        state.count()
    }

    /// Queues the last of a snapshot, which says that the stream has caught up.
    pub(super) fn feed_ready(&self, ready: Bytes) -> bool {
        self.state.lock().ready_sent = true;
        self.feed([ready])
    }

    /// Waits until the reader took all that was fed, or the stream ended; false when it ended.
    pub(super) async fn backlog_taken(&self) -> bool {
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if state.backlog.is_empty() || !state.is_open() {
                return Poll::Ready(state.is_open());
            }
            state.producer = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until the stream ended.
    pub(super) async fn ended(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if !state.is_open() {
                return Poll::Ready(());
            }
            state.producer = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether what the stream was opened with is withdrawn.
    pub(super) fn is_withdrawn(&self) -> bool {
        let credential = self.credential.as_deref();
        credential.is_some_and(Credential::is_withdrawn)
    }

    /// Queues one live event. A reader that is too far behind is cut off and resumes by its cursor.
    pub(super) fn push(&self, generation: u64, position: Position, frame: &Bytes) -> Pushed {
        let mut state = self.state.lock();
        let is_new = state
            .known
            .is_some_and(|(followed, known)| followed == generation && position > known);
        if !state.is_open() || !is_new {
            return Pushed::Ignored;
        }
        if state.live.len() >= LIVE_LIMIT {
            state.end(EndReason::TooSlow);
            return Pushed::Overflowed;
        }
        state.known = Some((generation, position));
        state.quiet = 0;
        state.live.push_back(frame.clone());
        wake(&mut state.reader);
        match state.count() {
            true => Pushed::Queued,
            false => Pushed::Overflowed,
        }
    }

    /// Queues a comment or, where the stream has had no message for long, `ready` with the newest
    /// cursor.
    pub(super) fn keep_alive(&self, newest: Option<(u64, Position, &Bytes)>) {
        let mut state = self.state.lock();
        if !state.backlog.is_empty() || !state.live.is_empty() {
            state.quiet = 0;
            return;
        }
        state.quiet = state.quiet.saturating_add(1);
        let newer = newest.filter(|(generation, newest, _)| {
            let behind = |(followed, known)| followed == *generation && known < *newest;
            state.quiet >= QUIET_ROUNDS && state.is_open() && state.known.is_some_and(behind)
        });
        match newer {
            Some((generation, newest, ready)) => {
                state.known = Some((generation, newest));
                state.quiet = 0;
                state.live.push_back(ready.clone());
            }
            None => state.comment = true,
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
        wake(&mut state.producer);
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

#[cfg(test)]
mod tests;
