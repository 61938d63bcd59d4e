//! What waits for the reader of a stream, and how far the stream is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use crate::events::sse::frame::{self, KEEP_ALIVE};
use crate::events::sse::payload::EndReason;
use crate::events::subscriber::queue_memory::{QueueMemory, QueueShare};
use crate::model::Position;

/// How many bytes one poll hands to the connection at most, to be written with one call.
const BURST_BYTES: usize = 32 * 1_024;

/// What changes while a stream is open.
#[derive(Debug)]
pub(super) struct State {
    /// Comes before anything live: a replay, a snapshot, and that the stream has caught up.
    pub(super) backlog: VecDeque<Bytes>,
    /// Events in order, from the hub.
    pub(super) live: VecDeque<Bytes>,
    /// How many bytes of `backlog` no other stream holds.
    pub(super) unshared_bytes: usize,
    share: QueueShare,
    /// Whether to send a comment when there is nothing else.
    pub(super) comment: bool,
    /// Whether the reader was told when to reconnect.
    retry_sent: bool,
    /// Whether the reader was told that it has caught up.
    pub(super) ready_sent: bool,
    /// The generation of the ring that is followed; everything up to the position has been told, or
    /// is about to be.
    pub(super) known: Option<(u64, Position)>,
    /// How many keep-alives came since the last message.
    pub(super) quiet: u8,
    pub(super) stage: Stage,
    pub(super) reader: Option<Waker>,
    pub(super) producer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// The reader takes what waits, and then the reason.
    Ending(EndReason),
    /// The reader was told the reason.
    Told,
    /// The reader gets nothing more.
    Over,
}

impl State {
    pub(super) fn new(waiting: &Arc<QueueMemory>) -> Self {
        Self {
            backlog: VecDeque::new(),
            live: VecDeque::new(),
            unshared_bytes: 0,
            share: QueueShare::of(waiting),
            comment: true,
            retry_sent: false,
            ready_sent: false,
            known: None,
            quiet: 0,
            stage: Stage::Open,
            reader: None,
            producer: None,
        }
    }

    pub(super) fn reset(&mut self) {
        self.known = None;
        self.ready_sent = false;
        self.drop_queues();
    }

    fn waiting_bytes(&self) -> usize {
        self.unshared_bytes + (self.backlog.len() + self.live.len()) * size_of::<Bytes>()
    }

    /// Counts what waits; ends the stream where there is no room for it.
    pub(super) fn count(&mut self) -> bool {
        let fits = self.share.set(self.waiting_bytes());
        if !fits {
            self.end(EndReason::TooSlow);
        }
        fits
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

    /// What waits, as much of it as goes into one write; at the end the reason.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let queue = if self.backlog.is_empty() {
            &mut self.live
        } else {
            &mut self.backlog
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
        if self.backlog.is_empty() {
            self.unshared_bytes = 0;
            wake(&mut self.producer);
        }
        self.share.set(self.waiting_bytes());
        self.comment = false;
        Some(bytes).map(|bytes| self.with_retry(bytes))
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
    fn with_retry(&mut self, bytes: Bytes) -> Bytes {
        if self.retry_sent || bytes == KEEP_ALIVE {
            return bytes;
        }
        self.retry_sent = true;
        let mut retry_sent = BytesMut::from(frame::retry().as_bytes());
        retry_sent.extend_from_slice(&bytes);
        retry_sent.freeze()
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

pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
