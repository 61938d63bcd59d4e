//! The queues and the state of one stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::events::sse::frame::{self, Frame};
use crate::events::sse::payload::EndReason;
use crate::events::subscriber::queue_memory::{QueueMemory, QueueShare};

/// The part of a subscriber that changes while the stream is open.
#[derive(Debug)]
pub(super) struct State {
    /// Frames before the live events: a snapshot or a replay, and `presence.ready`.
    pub(super) backlog: VecDeque<Frame>,
    /// Live events from the hub, in order.
    pub(super) live: VecDeque<Frame>,
    /// Bytes of the backlog that only this stream holds.
    pub(super) unshared_bytes: usize,
    share: QueueShare,
    /// Whether a keep-alive is due.
    pub(super) keep_alive_due: bool,
    /// Whether the client has received its reconnection time.
    retry_sent: bool,
    /// Whether `presence.ready` was queued since the last reset.
    pub(super) ready_sent: bool,
    /// `None` while the stream is not live.
    pub(super) live_from: Option<Live>,
    /// Keep-alives since the last message.
    pub(super) quiet: u8,
    pub(super) stage: Stage,
    pub(super) reader: Option<Waker>,
    pub(super) producer: Option<Waker>,
}

/// How far a live stream has come in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::events) struct Live {
    /// The generation of the ring up to which the stream was reset, if it had to be.
    pub(in crate::events) generation: u64,
    /// The stream has all events of its interest before this number.
    pub(in crate::events) next: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// The client can take the queues, and then `presence.end`.
    Ending(EndReason),
    /// The client has taken `presence.end`.
    Ended,
    /// The client receives nothing more.
    Closed,
}

impl State {
    pub(super) fn new(memory: &Arc<QueueMemory>) -> Self {
        Self {
            backlog: VecDeque::new(),
            live: VecDeque::new(),
            unshared_bytes: 0,
            share: QueueShare::of(memory),
            keep_alive_due: true,
            retry_sent: false,
            ready_sent: false,
            live_from: None,
            quiet: 0,
            stage: Stage::Open,
            reader: None,
            producer: None,
        }
    }

    pub(super) fn reset(&mut self) {
        self.live_from = None;
        self.ready_sent = false;
        self.drop_queues();
    }

    fn queue_bytes(&self) -> usize {
        self.unshared_bytes + (self.backlog.len() + self.live.len()) * size_of::<Frame>()
    }

    /// Updates the share of the queue memory. Returns false if all queues exceed their limit.
    pub(super) fn update_share(&mut self) -> bool {
        self.share.set(self.queue_bytes())
    }

    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    pub(super) fn end(&mut self, reason: EndReason) {
        self.stage = Stage::Ending(reason);
        if !reason.delivers_queue_first() {
            self.drop_queues();
        }
        wake(&mut self.reader);
        wake(&mut self.producer);
    }

    pub(super) fn drop_queues(&mut self) {
        self.backlog = VecDeque::new();
        self.live = VecDeque::new();
        self.unshared_bytes = 0;
        self.share.set(0);
    }

    /// Takes the next frame: the reconnection time before the first message, then queued frames, a
    /// keep-alive or `presence.end`.
    pub(super) fn take(&mut self) -> Option<Frame> {
        if !self.retry_sent && self.has_message() {
            self.retry_sent = true;
            return Some(frame::retry());
        }
        let queue = if self.backlog.is_empty() {
            &mut self.live
        } else {
            &mut self.backlog
        };
        let frame = match queue.pop_front() {
            Some(frame) => {
                if queue.is_empty() {
                    *queue = VecDeque::new();
                }
                frame
            }
            None => self.take_without_queue()?,
        };
        if self.backlog.is_empty() {
            self.unshared_bytes = 0;
            wake(&mut self.producer);
        }
        self.update_share();
        self.keep_alive_due = false;
        Some(frame)
    }

    fn has_message(&self) -> bool {
        let is_ending = matches!(self.stage, Stage::Ending(_));
        is_ending || !self.backlog.is_empty() || !self.live.is_empty()
    }

    fn take_without_queue(&mut self) -> Option<Frame> {
        match self.stage {
            Stage::Open if self.keep_alive_due => Some(Frame::KEEP_ALIVE),
            Stage::Ending(reason) => {
                self.stage = Stage::Ended;
                Some(frame::end(reason))
            }
            Stage::Open | Stage::Ended | Stage::Closed => None,
        }
    }
}

pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
