//! One stream as the hub sees it. The hub writes to its queues, and the response body reads from
//! them.

pub(super) mod queue_memory;
mod state;

use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use self::queue_memory::QueueMemory;
pub(super) use self::state::Live;
use self::state::{Stage, State, wake};
use super::interest::{AudienceId, Interest};
use super::sse::frame::Frame;
use super::sse::payload::EndReason;
use crate::model::Credential;

/// Live events that a stream queues before it is cut off. Queued frames are shared, so a full queue
/// costs 128 KiB. At a hundred events a second a client has forty seconds to catch up. If many
/// clients are slow, [`QueueMemory`] cuts them off sooner.
const LIVE_LIMIT: usize = 4_096;

/// Keep-alives in a row, about a minute, after which the stream sends a newer cursor.
const QUIET_ROUNDS: u8 = 6;

/// One stream. It has no task, timer or channel of its own, so that an idle stream takes little
/// memory.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(super) id: u64,
    following: RwLock<Following>,
    pub(super) snapshot: bool,
    credential: Option<Arc<dyn Credential>>,
    state: Mutex<State>,
}

/// What a stream follows.
#[derive(Debug)]
struct Following {
    audience: AudienceId,
    interest: Interest,
    since: u64,
}

/// The options of a new stream.
#[derive(Debug)]
pub(super) struct SubscriberOptions {
    pub(super) interest: Interest,
    /// The number of the entry as of which the own groups of the interest are known.
    pub(super) since: u64,
    pub(super) snapshot: bool,
    /// When the stream ends, and for which reason.
    pub(super) closes: (Instant, EndReason),
    /// The credential of the stream, if it can be withdrawn.
    pub(super) credential: Option<Arc<dyn Credential>>,
}

/// The result of [`Subscriber::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    Ignored,
    TooSlow,
}

impl Subscriber {
    pub(super) fn new(
        id: u64,
        audience: AudienceId,
        interest: Interest,
        options: SubscriberOptions,
        queue_memory: &Arc<QueueMemory>,
    ) -> Self {
        Self {
            id,
            following: RwLock::new(Following {
                audience,
                interest,
                since: options.since,
            }),
            snapshot: options.snapshot,
            credential: options.credential,
            state: Mutex::new(State::new(queue_memory)),
        }
    }

    /// The audience of the stream: the streams with an equal interest.
    pub(super) fn audience(&self) -> AudienceId {
        self.following.read().audience
    }

    /// The interest of the stream. Only the interest in own groups changes.
    pub(super) fn interest(&self) -> Interest {
        self.following.read().interest.clone()
    }

    /// The number of the entry as of which the own groups of the interest are known.
    pub(super) fn since(&self) -> u64 {
        self.following.read().since
    }

    /// Sets the interest and the audience of the stream. Returns the former audience.
    pub(super) fn follow(
        &self,
        audience: AudienceId,
        interest: Interest,
        since: u64,
    ) -> AudienceId {
        let following = Following {
            audience,
            interest,
            since,
        };
        std::mem::replace(&mut *self.following.write(), following).audience
    }

    /// Ends live delivery before the entry with this number, without a reset. Returns whether the stream was live and
    /// does not have the entry.
    pub(super) fn pause_before(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        let is_before = state.live_from.is_some_and(|live| live.next <= number);
        if is_before {
            state.live_from = None;
            // What comes next is a backlog, and the client has to take these events before.
            let State { backlog, live, .. } = &mut *state;
            backlog.append(live);
        }
        is_before
    }

    /// Begins live delivery. The missed events come first, then `ready`, unless the stream has sent `presence.ready`
    /// since its last reset.
    pub(super) fn go_live(&self, live: Live, missed: Vec<Frame>, ready: impl FnOnce() -> Frame) {
        let mut state = self.state.lock();
        if state.is_open() && !missed.is_empty() {
            state.backlog.extend(missed);
            wake(&mut state.reader);
        }
        state.live_from = Some(live);
        if !state.ready_sent && state.is_open() {
            state.ready_sent = true;
            state.backlog.push_back(ready());
            state.quiet = 0;
            wake(&mut state.reader);
        }
    }

    /// Ends live delivery and drops all queues.
    pub(super) fn reset(&self) {
        self.state.lock().reset();
    }

    /// Brings a live stream of an older generation into `generation`. Resets the stream if it watches what restarted
    /// since. Returns whether it did.
    pub(super) fn enter_generation(&self, generation: u64, watches: impl FnOnce() -> bool) -> bool {
        let is_older = |live: &Live| live.generation < generation;
        if !self.state.lock().live_from.as_ref().is_some_and(is_older) {
            return false;
        }
        let watches = watches();
        let mut state = self.state.lock();
        // The stream may have been reset in between.
        let Some(live) = state.live_from.as_mut().filter(|live| is_older(live)) else {
            return false;
        };
        live.generation = generation;
        if watches {
            state.reset();
        }
        watches
    }

    /// Queues shared frames of the backlog. Does nothing if the stream ended.
    pub(super) fn push_backlog(&self, frames: impl IntoIterator<Item = Frame>) {
        let mut state = self.state.lock();
        if state.is_open() {
            state.backlog.extend(frames);
            wake(&mut state.reader);
        }
    }

    /// Queues a frame of the backlog that only this stream holds. Does nothing if the stream ended.
    /// Returns false if all queues exceed their limit: the caller then cuts the stream off.
    pub(super) fn push_unshared(&self, messages: Frame) -> bool {
        let mut state = self.state.lock();
        if !state.is_open() {
            return true;
        }
        state.unshared_bytes += messages.memory();
        state.backlog.push_back(messages);
        wake(&mut state.reader);
        state.update_share()
    }

    /// Queues the `presence.ready` after a snapshot.
    pub(super) fn push_ready(&self, ready: Frame) {
        self.state.lock().ready_sent = true;
        self.push_backlog([ready]);
    }

    /// Waits until the client has taken the backlog or the stream ended. Returns false if it ended.
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

    /// Waits until the stream ends.
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

    /// Whether the credential of the stream was withdrawn.
    pub(super) fn is_withdrawn(&self) -> bool {
        let credential = self.credential.as_deref();
        credential.is_some_and(Credential::is_withdrawn)
    }

    /// Queues the live event with this number. `generation` is the one in which its partition restarted last. A stream
    /// whose client is too slow ends; the client resumes with its cursor.
    pub(super) fn push(&self, generation: u64, number: u64, frame: &Frame) -> Pushed {
        let mut state = self.state.lock();
        let is_open = state.is_open();
        let is_new = |live: &&mut Live| live.generation >= generation && number >= live.next;
        let Some(live) = state.live_from.as_mut().filter(is_new).filter(|_| is_open) else {
            return Pushed::Ignored;
        };
        live.next = number + 1;
        if state.live.len() >= LIVE_LIMIT {
            state.end(EndReason::TooSlow);
            return Pushed::TooSlow;
        }
        state.quiet = 0;
        state.live.push_back(frame.clone());
        wake(&mut state.reader);
        if state.update_share() {
            return Pushed::Queued;
        }
        state.end(EndReason::TooSlow);
        Pushed::TooSlow
    }

    /// Queues a keep-alive. A stream that carried no message for [`QUIET_ROUNDS`] keep-alives
    /// queues `presence.ready` with the newest cursor instead, if the cursor is newer than its own.
    pub(super) fn keep_alive(&self, newest: Option<(Live, &Frame)>) {
        let mut state = self.state.lock();
        if !state.backlog.is_empty() || !state.live.is_empty() {
            state.quiet = 0;
            return;
        }
        state.quiet = state.quiet.saturating_add(1);
        let newer = newest.filter(|(newest, _)| {
            let is_behind =
                |live: Live| live.generation == newest.generation && live.next < newest.next;
            state.quiet >= QUIET_ROUNDS && state.is_open() && state.live_from.is_some_and(is_behind)
        });
        match newer {
            Some((newest, ready)) => {
                state.live_from = Some(newest);
                state.quiet = 0;
                state.live.push_back(ready.clone());
            }
            None => state.keep_alive_due = true,
        }
        wake(&mut state.reader);
    }

    /// Ends the stream for this reason. Returns false if it ended before.
    pub(super) fn end(&self, reason: EndReason) -> bool {
        let mut state = self.state.lock();
        let was_open = state.is_open();
        if was_open {
            state.end(reason);
        }
        was_open
    }

    /// Drops the queues of an ended stream. Only `presence.end` is left to send.
    pub(super) fn drop_queues(&self) {
        self.state.lock().drop_queues();
    }

    /// Closes an ended stream. Its client receives nothing more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.stage = Stage::Closed;
        state.drop_queues();
        wake(&mut state.reader);
        wake(&mut state.producer);
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.state.lock().is_open()
    }

    pub(super) fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.stage == Stage::Closed {
            return Poll::Ready(());
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        let mut state = self.state.lock();
        if let Some(frame) = state.take() {
            return Poll::Ready(Some(frame));
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
