//! A reader that reconnects as `EventSource` does: with its cursor, to the next instance that answers.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reqwest::Response;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::parser::Parser;
use super::{Event, Stream};
use crate::client::Client;
use crate::names::partitions_of_tests;
use crate::timestamp::Timestamp;

/// Time-out for the head of a stream. The reader then tries the next instance.
const OPENING: Duration = Duration::from_secs(5);

/// The longest wait before a reconnect. The time that the server asks for is too long for a test.
const LONGEST_RETRY: Duration = Duration::from_millis(200);

/// What a reader requests, and how it reads.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The query, such as `?userIds=alice`.
    pub query: String,
    pub memory: Memory,
    /// The pause after each piece of the stream.
    pub rest: Duration,
}

/// What a reader sends when it reconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The last cursor.
    Cursor,
    /// Nothing, as a page does after a reload.
    Nothing,
}

/// One entry in the log of a reader.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Timestamp,
    pub what: Heard,
}

/// What a reader noticed.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A stream has begun.
    Opened,
    Event(Event),
    /// The stream at this instance has ended, properly or not.
    Closed(usize),
}

/// A running reader. Dropping it stops the reader.
pub struct EventSource {
    log: Arc<Mutex<Vec<Entry>>>,
    cut: Arc<Notify>,
    task: JoinHandle<()>,
}

impl EventSource {
    /// Starts to read at the instance `first`, modulo their number.
    pub fn start(clients: &[Client], first: usize, habits: Habits) -> Self {
        let log = Arc::default();
        let cut = Arc::default();
        let reader = Reader {
            clients: clients.to_vec(),
            habits,
            log: Arc::clone(&log),
            cut: Arc::clone(&cut),
            cursor: String::new(),
            retry: LONGEST_RETRY,
        };
        let task = tokio::spawn(reader.run(first));
        Self { log, cut, task }
    }

    /// Closes the connection. The reader reconnects.
    pub fn cut(&self) {
        self.cut.notify_one();
    }

    /// The log so far.
    pub fn log(&self) -> Vec<Entry> {
        self.entries().clone()
    }

    /// The log since the last call.
    pub fn take_log(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.entries())
    }

    /// Whether the newest change is about `user`; with several partitions, one of the newest changes.
    pub fn is_up_to(&self, user: &str) -> bool {
        let log = self.entries();
        let newest = log.iter().rev().filter_map(|entry| match &entry.what {
            Heard::Event(event) if event.is_change() => Some(event.user() == user),
            _ => None,
        });
        newest.take(partitions_of_tests()).any(|is_it| is_it)
    }

    /// Whether an event with this name was heard.
    pub fn has_heard(&self, name: &str) -> bool {
        let log = self.entries();
        log.iter()
            .any(|entry| matches!(&entry.what, Heard::Event(event) if event.name == name))
    }

    /// Whether the log has an entry.
    pub fn has_begun(&self) -> bool {
        !self.entries().is_empty()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.log.lock().expect("no reader panicked")
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Reader {
    clients: Vec<Client>,
    habits: Habits,
    log: Arc<Mutex<Vec<Entry>>>,
    cut: Arc<Notify>,
    cursor: String,
    retry: Duration,
}

impl Reader {
    async fn run(mut self, first: usize) {
        for turn in first.. {
            let instance = turn % self.clients.len();
            if let Some(response) = self.open(instance).await {
                self.read(response).await;
                self.note(Heard::Closed(instance));
            }
            sleep(self.retry).await;
        }
    }

    async fn open(&self, instance: usize) -> Option<Response> {
        let mut request = Stream::request(&self.clients[instance], &self.habits.query);
        if self.habits.memory == Memory::Cursor && !self.cursor.is_empty() {
            request = request.header("Last-Event-ID", &self.cursor);
        }
        let answer = timeout(OPENING, request.send()).await.ok()?.ok()?;
        (answer.status() == 200).then_some(answer)
    }

    async fn read(&mut self, mut response: Response) {
        let mut parser = Parser::default();
        let mut begun = false;
        let cut = Arc::clone(&self.cut);
        loop {
            let piece = tokio::select! {
                piece = response.chunk() => piece,
                () = cut.notified() => return,
            };
            let Ok(Some(bytes)) = piece else { return };
            let events = parser.feed(&bytes);
            if !std::mem::replace(&mut begun, true) {
                self.note(Heard::Opened);
            }
            if !parser.last_id().is_empty() {
                parser.last_id().clone_into(&mut self.cursor);
            }
            if let Some(retry_ms) = parser.retry_ms() {
                self.retry = Duration::from_millis(retry_ms).min(LONGEST_RETRY);
            }
            for event in events.into_iter().filter(|event| !event.is_routine()) {
                self.note(Heard::Event(event));
            }
            sleep(self.habits.rest).await;
        }
    }

    fn note(&self, what: Heard) {
        let at = Timestamp::now();
        let mut log = self.log.lock().expect("no reader panicked");
        log.push(Entry { at, what });
    }
}
