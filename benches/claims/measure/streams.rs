//! Readers of Server-Sent Events: many that only count, and one that keeps every event.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// The deadline of anything that must happen.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Texts that occur once in each event of the service and in each message of nchan.
pub(crate) const OUR_EVENT: &[u8] = b"event: user.";
pub(crate) const NCHAN_MESSAGE: &[u8] = b"data: ";

/// Open streams. Dropping this value closes all of them.
pub(crate) struct Readers {
    _reading: JoinSet<()>,
    count: usize,
    events: Arc<AtomicU64>,
    complete: Arc<AtomicU64>,
}

impl Readers {
    /// Opens `count` streams with the requests of `request` and counts `needle` in them. A stream is complete after
    /// `enough` occurrences.
    pub(crate) async fn open(
        address: SocketAddr,
        count: usize,
        needle: &'static [u8],
        enough: u64,
        request: impl Fn(usize) -> Vec<u8>,
    ) -> Self {
        let (events, complete) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let opened = Arc::new(AtomicU64::new(0));
        let mut reading = JoinSet::new();
        for number in 0..count {
            let request = request(number);
            let (events, complete) = (Arc::clone(&events), Arc::clone(&complete));
            let opened = Arc::clone(&opened);
            reading.spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("a connection");
                stream.write_all(&request).await.expect("a write");
                let mut counter = Counter::new(needle);
                let mut buffer = [0; 4_096];
                let mut own = 0;
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    if own == 0 && counter.is_new {
                        opened.fetch_add(1, Ordering::Relaxed);
                    }
                    let found = counter.count(&buffer[..length]);
                    events.fetch_add(found, Ordering::Relaxed);
                    if own < enough && own + found >= enough {
                        complete.fetch_add(1, Ordering::Relaxed);
                    }
                    own += found;
                }
            });
        }
        let readers = Self {
            _reading: reading,
            count,
            events,
            complete,
        };
        readers.wait(&opened, count as u64).await;
        readers
    }

    /// Waits until all streams together have had `events` events.
    pub(crate) async fn have_had(&self, events: u64) {
        self.wait(&self.events, events).await;
    }

    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Waits until every stream is complete.
    pub(crate) async fn are_complete(&self) {
        self.wait(&self.complete, self.count as u64).await;
    }

    async fn wait(&self, what: &AtomicU64, enough: u64) {
        let began = Instant::now();
        while what.load(Ordering::Relaxed) < enough {
            let had = what.load(Ordering::Relaxed);
            assert!(began.elapsed() < TIMEOUT, "{had} of {enough} came");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Counts a text in a stream of pieces.
struct Counter {
    needle: &'static [u8],
    matched: usize,
    is_new: bool,
}

impl Counter {
    fn new(needle: &'static [u8]) -> Self {
        Self {
            needle,
            matched: 0,
            is_new: true,
        }
    }

    fn count(&mut self, bytes: &[u8]) -> u64 {
        self.is_new = false;
        let mut found = 0;
        for byte in bytes {
            // No needle contains its own beginning, so a mismatch starts from the beginning.
            if *byte != self.needle[self.matched] {
                self.matched = 0;
            }
            if *byte == self.needle[self.matched] {
                self.matched += 1;
            }
            if self.matched == self.needle.len() {
                self.matched = 0;
                found += 1;
            }
        }
        found
    }
}

/// Takes the whole lines from `text`, and calls `take` with each of them without its end.
pub(crate) fn take_lines(text: &mut Vec<u8>, mut take: impl FnMut(&[u8])) {
    let is_end = |byte: &u8| *byte == b'\n';
    let whole = text.iter().rposition(is_end).map_or(0, |end| end + 1);
    for line in text[..whole].split_inclusive(is_end) {
        take(line.trim_ascii_end());
    }
    text.drain(..whole);
}

/// The request for a stream.
pub(crate) fn get(path: &str, cursor: Option<&str>) -> Vec<u8> {
    let cursor = cursor.map(|cursor| format!("Last-Event-ID: {cursor}\r\n"));
    let cursor = cursor.unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{cursor}\r\n")
        .into_bytes()
}

/// One event with its time of arrival.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) at: Instant,
}

/// A stream about all users that keeps every event.
pub(crate) struct Watcher {
    _reading: JoinSet<()>,
    seen: Arc<Mutex<Vec<Seen>>>,
    cursor: Arc<Mutex<String>>,
}

impl Watcher {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = get("/v1/events", None);
        stream.write_all(&request).await.expect("a write");
        let (seen, cursor) = (
            Arc::<Mutex<Vec<_>>>::default(),
            Arc::<Mutex<String>>::default(),
        );
        let (keep, place) = (Arc::clone(&seen), Arc::clone(&cursor));
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let (mut text, mut name) = (Vec::new(), String::new());
            while let Ok(1..) = stream.read_buf(&mut text).await {
                let at = Instant::now();
                take_lines(&mut text, |line| {
                    let line = String::from_utf8_lossy(line);
                    if let Some(id) = line.strip_prefix("id: ") {
                        id.clone_into(&mut place.lock());
                    } else if let Some(event) = line.strip_prefix("event: ") {
                        event.clone_into(&mut name);
                    } else if let Some(data) = line.strip_prefix("data: {\"userId\":\"") {
                        let user = data.split('"').next().unwrap_or_default().to_owned();
                        let name = name.clone();
                        keep.lock().push(Seen { name, user, at });
                    }
                });
            }
        });
        let watcher = Self {
            _reading: reading,
            seen,
            cursor,
        };
        let opened = async {
            while watcher.cursor().is_empty() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(TIMEOUT, opened).await.expect("the stream opens");
        watcher
    }

    /// The newest event id.
    pub(crate) fn cursor(&self) -> String {
        self.cursor.lock().clone()
    }

    /// Waits up to `longest` for `count` events with this name, and returns all events.
    pub(crate) async fn wait(&self, name: &str, count: usize, longest: Duration) -> Vec<Seen> {
        let came = async {
            let (mut looked, mut found) = (0, 0);
            while found < count {
                sleep(Duration::from_millis(20)).await;
                let seen = self.seen.lock();
                found += seen[looked..]
                    .iter()
                    .filter(|event| event.name == name)
                    .count();
                looked = seen.len();
            }
        };
        // The caller counts the events that did not arrive.
        let _ = timeout(longest, came).await;
        self.seen.lock().clone()
    }
}
