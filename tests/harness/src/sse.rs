//! A client of event streams that reads in the background, as `EventSource` in a browser does, and keeps everything.

mod compare;
mod parser;
mod source;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::Client;
use crate::names::{Names, STRANGER};
use crate::timestamp::Timestamp;
use crate::wait::{PATIENCE, eventually, eventually_true};
pub use compare::{alternating, assert_same_changes, briefs, late_events};
use parser::Parser;
pub use source::{Entry, EventSource, Habits, Heard, Memory};

/// One event, with the last event id at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub name: String,
    pub data: String,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The body ended properly.
    Clean,
    /// The connection broke within the body.
    Broken(String),
}

/// An open stream. Dropping it closes the connection.
pub struct Stream {
    pub headers: HeaderMap,
    /// Whether the request names no users and no groups.
    of_everyone: bool,
    events: UnboundedReceiver<Event>,
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
}

/// What the reader has seen so far, without the events.
#[derive(Default)]
struct Seen {
    parser: Parser,
    raw: String,
    end: Option<End>,
    end_reason: Option<String>,
}

impl Event {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        let json = serde_json::from_str(&self.data);
        json.unwrap_or_else(|error| panic!("{error} in the data of {self:?}"))
    }

    /// The user of an event about a user; empty for other events.
    pub fn user(&self) -> String {
        self.text("userId")
    }

    /// The `reason` of the event.
    pub fn reason(&self) -> String {
        self.text("reason")
    }

    /// The `timestamp` of the event.
    pub fn timestamp(&self) -> Timestamp {
        self.time("timestamp")
    }

    /// The `lastSeenAt` of the event.
    pub fn last_seen_at(&self) -> Timestamp {
        self.time("lastSeenAt")
    }

    /// The users in a `presence.snapshot`.
    pub fn online(&self) -> Vec<String> {
        assert_eq!(self.name, "presence.snapshot");
        self.listed("online")
    }

    /// The ids in a list of the event.
    pub fn listed(&self, field: &str) -> Vec<String> {
        let ids = self.json()[field].as_array().cloned();
        let ids = ids.unwrap_or_else(|| panic!("no list in {self:?}"));
        let ids = ids
            .iter()
            .map(|id| id.as_str().expect("ids are strings").to_owned());
        ids.collect()
    }

    /// Whether the event is about a user: `user.online`, `user.updated` or `user.offline`.
    pub fn is_change(&self) -> bool {
        self.name.starts_with("user.")
    }

    /// Whether the event is a `presence.ready` without a new cursor, a `presence.end`, or about a user of
    /// [`Names::strangers`]. Most tests skip these events.
    pub fn is_routine(&self) -> bool {
        match &*self.name {
            "presence.ready" => self.data == "{}",
            "presence.end" => true,
            _ => self.is_change() && self.user().starts_with(STRANGER),
        }
    }

    /// Such as `online alice` or `offline alice` for a change, and the name of any other event.
    pub fn brief(&self) -> String {
        match self.name.strip_prefix("user.") {
            Some(change) => format!("{change} {}", self.user()),
            None => self.name.clone(),
        }
    }

    fn text(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap_or("").to_owned()
    }

    fn time(&self, field: &str) -> Timestamp {
        let time = Timestamp::parse(&self.text(field));
        time.unwrap_or_else(|| panic!("no time {field} in {self:?}"))
    }
}

impl Stream {
    /// Opens `GET /v1/events`. `query` is sent unchanged, such as `?userIds=alice`.
    pub async fn open(client: &Client, query: &str) -> Self {
        Self::send(Self::request(client, query)).await
    }

    /// Opens `GET /v1/events` with `cursor` as `Last-Event-ID`.
    pub async fn resume(client: &Client, query: &str, cursor: &str) -> Self {
        let request = Self::request(client, query);
        Self::send(request.header("Last-Event-ID", cursor)).await
    }

    /// The request of a stream, to be completed before [`Stream::send`].
    pub fn request(client: &Client, query: &str) -> RequestBuilder {
        client.request(Method::GET, &format!("/v1/events{query}"))
    }

    /// Sends the request and waits for the head of the answer and the first cursor.
    pub async fn send(request: RequestBuilder) -> Self {
        let built = request.try_clone().and_then(|copy| copy.build().ok());
        let built = built.expect("a request with a body in memory");
        let names_some = built
            .url()
            .query()
            .is_some_and(|query| query.contains("userIds") || query.contains("groupIds"));
        let of_everyone = built.method() == Method::GET && !names_some;
        let opening = timeout(PATIENCE, request.send()).await;
        let response = opening.expect("a stream answers at once");
        let response = response.unwrap_or_else(|error| panic!("no stream: {error:?}"));
        assert_eq!(response.status(), StatusCode::OK);
        let stream = Self::read(response, of_everyone);
        eventually_true("the stream names a first cursor", async || {
            !stream.last_id().is_empty()
        })
        .await;
        stream
    }

    fn read(response: Response, of_everyone: bool) -> Self {
        let headers = response.headers().clone();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (sender, events) = unbounded_channel();
        let reader = tokio::spawn(read_on(response, Arc::clone(&seen), sender));
        Self {
            headers,
            of_everyone,
            events,
            seen,
            reader,
        }
    }

    /// The next event that is not routine. Panics at the end of the stream and after [`PATIENCE`].
    pub async fn next(&mut self) -> Event {
        loop {
            let event = self.next_of_all().await;
            if !event.is_routine() {
                return event;
            }
        }
    }

    /// The next event of any kind. Panics at the end of the stream and after [`PATIENCE`].
    pub async fn next_of_all(&mut self) -> Event {
        match timeout(PATIENCE, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => panic!(
                "the stream ended, {:?}, after:\n{}",
                self.end_so_far(),
                self.raw()
            ),
            Err(_) => panic!("no event came; the stream so far:\n{}", self.raw()),
        }
    }

    /// The events up to the first for which `is_last` is true, including it.
    pub async fn collect_until(&mut self, mut is_last: impl FnMut(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            let last = is_last(&event);
            events.push(event);
            if last {
                return events;
            }
        }
    }

    /// The next `count` changes. Other events are dropped.
    pub async fn changes(&mut self, count: usize) -> Vec<Event> {
        let mut changes = Vec::new();
        while changes.len() < count {
            let event = self.next().await;
            if event.is_change() {
                changes.push(event);
            }
        }
        changes
    }

    /// All events before now: connects the user `marker`, and reads until its event. No other caller may use `marker`.
    ///
    /// With several partitions, the event of one partition may overtake those of others. A stream about all users then
    /// has a user in each, and only `marker` stays connected. A stream about some users reads on for a moment.
    pub async fn events_before_now(&mut self, client: &Client, marker: &str) -> Vec<Event> {
        let mut missing = BTreeSet::from([marker.to_owned()]);
        if self.of_everyone {
            missing.extend(Names::default().strangers(marker));
        }
        for user in &missing {
            let fresh = client.connect(user).await.became_online;
            assert!(fresh, "{user} was not fresh");
        }
        for stranger in missing.iter().filter(|user| *user != marker) {
            client.disconnect(stranger).await;
        }
        let mut events = Vec::new();
        while !missing.is_empty() {
            let event = self.next_of_all().await;
            // The marker may expire before the strangers of all partitions have come.
            let is_marker = missing.remove(&event.user()) || event.user() == marker;
            if !is_marker && !event.is_routine() {
                events.push(event);
            }
        }
        if !self.of_everyone {
            late_events().await;
            events.extend(self.unread());
        }
        events
    }

    /// Reads a snapshot up to `presence.ready`: the online users.
    pub async fn snapshot(&mut self) -> Vec<String> {
        let messages = self
            .collect_until(|event| event.name == "presence.ready")
            .await;
        let (_, snapshots) = messages.split_last().expect("presence.ready");
        let mut online: Vec<String> = snapshots.iter().flat_map(Event::online).collect();
        online.sort_unstable();
        online
    }

    /// Waits `patience` for the end of the stream. Unread events stay readable.
    pub async fn end(&self, patience: Duration) -> Option<End> {
        let ended = eventually("the stream ends", async || self.end_so_far());
        timeout(patience, ended).await.ok()
    }

    /// The events that have arrived and were not read, without routine events.
    pub fn unread(&mut self) -> Vec<Event> {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        events.filter(|event| !event.is_routine()).collect()
    }

    /// The reason in `presence.end`, if it arrived.
    pub fn end_reason(&self) -> Option<String> {
        self.seen().end_reason.clone()
    }

    /// The last event id, which an `EventSource` sends as `Last-Event-ID`.
    pub fn last_id(&self) -> String {
        self.seen().parser.last_id().to_owned()
    }

    /// The comments so far.
    pub fn comments(&self) -> Vec<String> {
        self.seen().parser.comments().to_vec()
    }

    /// The reconnection time in the stream, in milliseconds.
    pub fn retry_ms(&self) -> Option<u64> {
        self.seen().parser.retry_ms()
    }

    /// The body of the stream so far.
    pub fn raw(&self) -> String {
        self.seen().raw.clone()
    }

    fn end_so_far(&self) -> Option<End> {
        self.seen().end.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no reader panicked")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_on(mut response: Response, seen: Arc<Mutex<Seen>>, events: UnboundedSender<Event>) {
    let end = loop {
        match response.chunk().await {
            Ok(Some(bytes)) => {
                let mut seen = seen.lock().expect("no reader panicked");
                seen.raw.push_str(&String::from_utf8_lossy(&bytes));
                for event in seen.parser.feed(&bytes) {
                    assert_eq!(seen.end_reason, None, "{event:?} after the end");
                    if event.name == "presence.end" {
                        seen.end_reason = Some(event.reason());
                    }
                    // The receiver may be gone. The event is still kept in `seen`.
                    let _ = events.send(event);
                }
                assert_eq!(seen.parser.empty_blocks(), 0, "{}", seen.raw);
            }
            Ok(None) => break End::Clean,
            Err(error) => break End::Broken(format!("{error:?}")),
        }
    };
    seen.lock().expect("no reader panicked").end = Some(end);
}
