//! The requests, reads and writes of a connection that hyper serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How many bytes an HTTP/2 client may send besides heads and bodies: at the beginning, for each request, for each part
/// of a response, which the client may acknowledge, and for each second.
const ALLOWANCE: u64 = 256 * 1_024;
const ALLOWANCE_PER_REQUEST: u64 = 16 * 1_024;
const ALLOWANCE_PER_PART: u64 = 64;
const ALLOWANCE_PER_SECOND: u64 = 4 * 1_024;

/// The bytes that count as progress of a client.
const PROGRESS_BYTES: u64 = 4 * 1_024;

/// The activity of a connection. Only tasks of one worker update it.
#[derive(Debug)]
pub(super) struct RequestActivity {
    requests: AtomicU32,
    in_progress: AtomicU32,
    read: AtomicU64,
    /// The value of `read` when the last response was complete.
    read_when_answered: AtomicU64,
    written: AtomicU64,
    /// HTTP/2: the most bytes that may be read. On HTTP/1, hyper stops reading during a request.
    allowance: Option<AtomicU64>,
    /// Whether the last write was incomplete.
    is_blocked: AtomicBool,
    /// HTTP/1: whether the last request takes long.
    takes_long: AtomicBool,
    /// Whether the next bytes that are written may belong to a response of a handler.
    owes_response: AtomicBool,
    /// The requests that wait for the client: for more of their bodies, or for room for their responses.
    waiting: AtomicU32,
    /// The bytes that were read and written at the last progress, and its time.
    progress: Mutex<(u64, Instant)>,
    evicted: Notify,
}

/// A request whose response is not complete, until this is dropped.
#[derive(Debug)]
pub(super) struct ActiveRequest(ClientWait);

/// Whether a request or a response waits for the client. Dropped, it does not wait.
#[derive(Debug)]
pub(super) struct ClientWait {
    activity: Arc<RequestActivity>,
    waits: bool,
}

impl RequestActivity {
    pub(super) fn http1() -> Arc<Self> {
        Self::new(None)
    }

    pub(super) fn http2() -> Arc<Self> {
        Self::new(Some(AtomicU64::new(ALLOWANCE)))
    }

    fn new(allowance: Option<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            requests: AtomicU32::new(0),
            in_progress: AtomicU32::new(0),
            read: AtomicU64::new(0),
            read_when_answered: AtomicU64::new(0),
            written: AtomicU64::new(0),
            allowance,
            is_blocked: AtomicBool::new(false),
            takes_long: AtomicBool::new(false),
            owes_response: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            progress: Mutex::new((0, Instant::now())),
            evicted: Notify::new(),
        })
    }

    /// Counts a request.
    pub(super) fn begin_request(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        self.owes_response.store(true, Ordering::Relaxed);
        self.takes_long.store(false, Ordering::Relaxed);
        self.record_progress();
        self.allow(ALLOWANCE_PER_REQUEST);
        ActiveRequest(self.client_wait())
    }

    /// A request or a response, which does not wait for the client yet.
    pub(super) fn client_wait(self: &Arc<Self>) -> ClientWait {
        ClientWait {
            activity: Arc::clone(self),
            waits: false,
        }
    }

    /// Counts bytes that were read; `of_bodies` of them belong to request bodies. Returns false if an HTTP/2 client
    /// sends too much besides heads and bodies.
    pub(super) fn record_read(&self, bytes: usize, of_bodies: usize) -> bool {
        self.allow(of_bodies as u64);
        let read = self.read.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        self.record_bytes();
        match &self.allowance {
            Some(allowance) => read <= allowance.load(Ordering::Relaxed),
            None => true,
        }
    }

    /// Adds the allowance of one second.
    pub(super) fn record_second(&self) {
        self.allow(ALLOWANCE_PER_SECOND);
    }

    fn allow(&self, bytes: u64) {
        if let Some(allowance) = &self.allowance {
            allowance.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Counts bytes that were written.
    pub(super) fn record_write(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.record_bytes();
        self.is_blocked.store(false, Ordering::Relaxed);
    }

    /// Records that a write has to wait for the client.
    pub(super) fn record_blocked_write(&self) {
        self.is_blocked.store(true, Ordering::Relaxed);
    }

    /// Records that all pending bytes were written.
    pub(super) fn record_flush(&self) {
        if self.in_progress() == 0 {
            self.owes_response.store(false, Ordering::Relaxed);
        }
    }

    fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed) + self.written()
    }

    /// A client that moves few bytes makes no progress.
    fn record_bytes(&self) {
        let bytes = self.bytes();
        let mut progress = self.progress.lock();
        if bytes - progress.0 >= PROGRESS_BYTES {
            *progress = (bytes, Instant::now());
        }
    }

    fn record_progress(&self) {
        *self.progress.lock() = (self.bytes(), Instant::now());
    }

    /// The time of the last progress, if the server waits for the client only: there is no request, or each request
    /// waits for the client.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        let all_wait = self.waiting.load(Ordering::Relaxed) >= self.in_progress();
        // On HTTP/2, other requests may be in progress while a write waits.
        let is_blocked = self.is_blocked() && self.allowance.is_none();
        (all_wait || is_blocked).then(|| self.progress.lock().1)
    }

    /// Makes the connection give up its permit.
    pub(super) fn evict(&self) {
        self.evicted.notify_one();
    }

    /// Resolves once the connection must give up its permit.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Whether no request is in progress and the client has received all responses.
    pub(super) fn is_between_requests(&self) -> bool {
        self.in_progress() == 0 && !self.is_blocked()
    }

    /// Whether the connection is between requests, and nothing of a next request was read.
    pub(super) fn is_idle(&self) -> bool {
        let read = self.read.load(Ordering::Relaxed);
        self.is_between_requests() && read == self.read_when_answered.load(Ordering::Relaxed)
    }

    /// Whether a write waits for the client.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// Records that the HTTP/1 request in progress takes long.
    pub(super) fn record_long_request(&self) {
        self.takes_long.store(true, Ordering::Relaxed);
    }

    /// Whether the last request takes long, so that its client may have given up.
    pub(super) fn takes_long(&self) -> bool {
        self.takes_long.load(Ordering::Relaxed)
    }

    /// Whether the next bytes that are written may belong to a response of a handler.
    pub(super) fn owes_response(&self) -> bool {
        self.owes_response.load(Ordering::Relaxed)
    }

    /// The requests whose response is not complete.
    pub(super) fn in_progress(&self) -> u32 {
        self.in_progress.load(Ordering::Relaxed)
    }

    /// All requests so far.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// All bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl ActiveRequest {
    /// Counts a part of the response, which the client may acknowledge.
    pub(super) fn record_part(&self) {
        self.0.activity.record_progress();
        self.0.activity.allow(ALLOWANCE_PER_PART);
    }

    /// Sets whether the response waits for the client, which must make room for it.
    pub(super) fn set_waits(&mut self, waits: bool) {
        self.0.set(waits);
    }
}

impl ClientWait {
    /// Sets whether the request or response waits for the client.
    pub(super) fn set(&mut self, waits: bool) {
        let waiting = &self.activity.waiting;
        match (self.waits, waits) {
            (false, true) => waiting.fetch_add(1, Ordering::Relaxed),
            (true, false) => waiting.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.waits = waits;
    }
}

impl Drop for ClientWait {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        let read = activity.read.load(Ordering::Relaxed);
        activity.read_when_answered.store(read, Ordering::Relaxed);
        activity.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_http2_request_adds_to_the_allowance_which_is_bounded() {
        let activity = RequestActivity::http2();
        assert!(activity.record_read(ALLOWANCE as usize, 0));
        assert!(!activity.record_read(1, 0));
        let request = activity.begin_request();
        assert!(activity.record_read(ALLOWANCE_PER_REQUEST as usize - 1, 0));
        assert!(!activity.record_read(1, 0));
        assert!(!activity.record_read(10, 10), "bodies do not count");
        request.record_part();
        assert!(activity.record_read(ALLOWANCE_PER_PART as usize - 1, 0));
        assert!(!activity.record_read(100, 0));
    }

    #[test]
    fn the_next_request_does_not_take_long() {
        let activity = RequestActivity::http1();
        let request = activity.begin_request();
        assert!(!activity.takes_long());
        activity.record_long_request();
        assert!(activity.takes_long());
        drop(request);
        let _next = activity.begin_request();
        assert!(!activity.takes_long());
    }

    #[test]
    fn bytes_after_the_last_response_belong_to_the_next_request() {
        let activity = RequestActivity::http1();
        assert!(activity.record_read(100, 0));
        assert!(!activity.is_idle(), "a head begins");
        let request = activity.begin_request();
        assert!(!activity.is_idle());
        drop(request);
        assert!(activity.is_idle());
        activity.record_blocked_write();
        assert!(!activity.is_idle(), "the client has not read the response");
        activity.record_write(1);
        assert!(activity.record_read(1, 0));
        assert!(!activity.is_idle());
    }
}
