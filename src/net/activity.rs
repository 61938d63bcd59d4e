//! What is known of a connection that hyper serves: what was asked, answered, read and written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::request_limits::RequestLimits;

/// How often a connection is looked at.
const STEP: Duration = Duration::from_secs(1);

/// How many steps a client may take for a head, from its first byte on: when the service is to end, and otherwise.
const HEAD_STEPS_LAST: u32 = 1;
const HEAD_STEPS: u32 = 10;

/// After how many steps without taking a byte of an answer a client is cut off: where all places are taken, and
/// otherwise.
const STUCK_STEPS_CROWDED: u32 = 3;
const STUCK_STEPS: u32 = 30;

/// How many bytes an HTTP/2 client may send that are neither heads nor bodies: so many at once, and so many more for
/// each request, for each part of an answer that it may acknowledge, and for each second.
const IDLE_TALK: u64 = 256 * 1_024;
const TALK_PER_REQUEST: u64 = 16 * 1_024;
const TALK_PER_PART: u64 = 64;
const TALK_PER_STEP: u64 = 4 * 1_024;

/// How many bytes a client moves at least to be one that gets on.
const PACE: u64 = 4 * 1_024;

/// What is known of a connection. All of it is counted by tasks of one worker.
#[derive(Debug)]
pub(super) struct RequestActivity {
    requests: AtomicU32,
    /// Requests whose answer is not complete.
    in_progress: AtomicU32,
    read: AtomicU64,
    /// How much had been read when the last answer was complete.
    read_when_answered: AtomicU64,
    written: AtomicU64,
    /// How much may be read; without a bound on HTTP/1, where reading stops during a request.
    may_read: AtomicU64,
    /// Whether the last write did not get through.
    blocked: AtomicBool,
    /// Whether an answer of ours may be among the bytes that are written next.
    owes: AtomicBool,
    /// Whether hyper refused what it read.
    refused: AtomicBool,
    /// Whether a handler waits for more of a body.
    waits_for_body: AtomicBool,
    /// How much had been read and written when it last got on, and when that was.
    got_on: Mutex<(u64, Instant)>,
    cut_off: Notify,
}

impl RequestActivity {
    pub(super) fn http1() -> Arc<Self> {
        Self::that_may_read(u64::MAX)
    }

    pub(super) fn http2() -> Arc<Self> {
        Self::that_may_read(IDLE_TALK)
    }

    fn that_may_read(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            requests: AtomicU32::new(0),
            in_progress: AtomicU32::new(0),
            read: AtomicU64::new(0),
            read_when_answered: AtomicU64::new(0),
            written: AtomicU64::new(0),
            may_read: AtomicU64::new(bytes),
            blocked: AtomicBool::new(false),
            owes: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            waits_for_body: AtomicBool::new(false),
            got_on: Mutex::new((0, Instant::now())),
            cut_off: Notify::new(),
        })
    }

    /// A request arrived; it is in progress until what this returns is dropped.
    pub(super) fn asked(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        self.owes.store(true, Ordering::Relaxed);
        self.gets_on();
        self.allow(TALK_PER_REQUEST);
        ActiveRequest(Arc::clone(self))
    }

    /// So many bytes were read, so many of them of bodies; false where the rest is too much for what was asked.
    pub(super) fn heard(&self, bytes: usize, of_bodies: usize) -> bool {
        self.allow(of_bodies as u64);
        let before = self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        self.moved();
        before + bytes as u64 <= self.may_read.load(Ordering::Relaxed)
    }

    fn allow(&self, bytes: u64) {
        if self.may_read.load(Ordering::Relaxed) != u64::MAX {
            self.may_read.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.moved();
        self.blocked.store(false, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed) + self.written.load(Ordering::Relaxed)
    }

    /// A client that moves a byte now and then does not get on.
    fn moved(&self) {
        let bytes = self.bytes();
        let mut got_on = self.got_on.lock();
        if bytes - got_on.0 >= PACE {
            *got_on = (bytes, Instant::now());
        }
    }

    fn gets_on(&self) {
        *self.got_on.lock() = (self.bytes(), Instant::now());
    }

    /// Whether a handler waits for more of a body.
    pub(super) fn set_waits_for_body(&self, waits: bool) {
        self.waits_for_body.store(waits, Ordering::Relaxed);
    }

    /// Since when this waits for its client; `None` while it is its client that waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        let waits_for_client = self.in_progress() == 0
            || self.is_blocked()
            || self.waits_for_body.load(Ordering::Relaxed);
        waits_for_client.then(|| self.got_on.lock().1)
    }

    /// Makes the connection give up its place.
    pub(super) fn cut_off(&self) {
        self.cut_off.notify_one();
    }

    /// Resolves once the place is needed by others.
    pub(super) async fn is_cut_off(&self) {
        self.cut_off.notified().await;
    }

    /// Whether no request is being answered, and its client took the answers.
    pub(super) fn is_between_requests(&self) -> bool {
        self.in_progress() == 0 && !self.is_blocked()
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    pub(super) fn set_blocked(&self) {
        self.blocked.store(true, Ordering::Relaxed);
    }

    /// Everything that was to be written has been.
    pub(super) fn flushed(&self) {
        if self.in_progress() == 0 {
            self.owes.store(false, Ordering::Relaxed);
        }
    }

    /// Whether what is written now answers a request.
    pub(super) fn owes_an_answer(&self) -> bool {
        self.owes.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether hyper's own answer to what is no request was held back.
    pub(super) fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn in_progress(&self) -> u32 {
        self.in_progress.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether every request was answered, the client took the answers, and nothing was read since.
    pub(super) fn is_idle(&self) -> bool {
        let read = self.read.load(Ordering::Relaxed);
        self.in_progress() == 0
            && !self.is_blocked()
            && read == self.read_when_answered.load(Ordering::Relaxed)
    }

    /// Resolves once an HTTP/1 connection is idle for a step or more, or its client is too slow.
    pub(super) async fn idle_or_slow(&self, room: &RequestLimits, is_last: bool) -> Verdict {
        let mut before = self.requests();
        let (mut head_steps, mut stuck) = (0, Stuck::default());
        loop {
            sleep(STEP).await;
            let same = before == self.requests();
            before = self.requests();
            if self.is_idle() && same {
                return Verdict::Idle;
            }
            let patience = match room.is_crowded() {
                true => STUCK_STEPS_CROWDED,
                false => STUCK_STEPS,
            };
            if stuck.steps(self) >= patience {
                return Verdict::TooSlow;
            }
            let reads_a_head = same && self.in_progress() == 0 && !self.is_blocked();
            head_steps = if reads_a_head { head_steps + 1 } else { 0 };
            let most = if is_last { HEAD_STEPS_LAST } else { HEAD_STEPS };
            if head_steps >= most {
                return Verdict::TooSlow;
            }
        }
    }

    /// Resolves once an HTTP/2 client has asked nothing for `keep_alive` or a little more, or is too slow.
    pub(super) async fn silent_or_slow(&self, keep_alive: Duration) -> Verdict {
        let steps = u32::try_from(keep_alive.as_secs()).unwrap_or(u32::MAX);
        let steps = steps.saturating_add(1);
        let mut before = self.requests();
        let (mut silent, mut stuck) = (0, Stuck::default());
        loop {
            sleep(STEP).await;
            self.allow(TALK_PER_STEP);
            if stuck.steps(self) >= STUCK_STEPS {
                return Verdict::TooSlow;
            }
            let same = before == self.requests() && self.in_progress() == 0;
            before = self.requests();
            silent = if same { silent + 1 } else { 0 };
            let most = if before == 0 { HEAD_STEPS } else { steps };
            if silent >= most {
                return Verdict::Idle;
            }
        }
    }

    /// Resolves once an HTTP/2 client that was told to end takes too long for that.
    pub(super) async fn too_slow_to_end(&self) -> Verdict {
        let (mut silent, mut stuck) = (0, Stuck::default());
        while silent < HEAD_STEPS && stuck.steps(self) < STUCK_STEPS {
            sleep(STEP).await;
            silent = if self.in_progress() == 0 {
                silent + 1
            } else {
                0
            };
        }
        Verdict::TooSlow
    }

    /// Resolves once an idle HTTP/2 client that was told to end has had so much time for it, and whatever it asked
    /// in between is answered.
    pub(super) async fn too_late_to_end(&self, patience: Duration) -> Verdict {
        sleep(patience).await;
        match self.in_progress() {
            0 => Verdict::TooSlow,
            _ => self.too_slow_to_end().await,
        }
    }
}

/// What became of a connection that was watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing was asked for some time.
    Idle,
    /// Its client takes too long for a head, or for taking an answer.
    TooSlow,
}

/// For how long nothing of an answer was taken.
#[derive(Debug, Default)]
struct Stuck {
    written: u64,
    steps: u32,
}

impl Stuck {
    /// Looks again, which is to be done each step; for how many steps nothing was taken.
    fn steps(&mut self, talk: &RequestActivity) -> u32 {
        let written = talk.written.load(Ordering::Relaxed);
        let is_stuck = talk.is_blocked() && written == self.written;
        self.written = written;
        self.steps = if is_stuck { self.steps + 1 } else { 0 };
        self.steps
    }
}

/// ConnectionGuard until the answer to a request is complete.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<RequestActivity>);

impl ActiveRequest {
    /// A part of the answer is to be sent, which its reader may acknowledge.
    pub(super) fn answers(&self) {
        self.0.gets_on();
        self.0.allow(TALK_PER_PART);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let read = self.0.read.load(Ordering::Relaxed);
        self.0.read_when_answered.store(read, Ordering::Relaxed);
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
