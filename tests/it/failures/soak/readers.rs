//! The readers, and the events that each received.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::client::Client;
use harness::names::partitions_of_tests;
use harness::sse::{Entry, Event, EventSource, Habits, Heard, Memory};
use harness::timestamp::Timestamp;

use super::callers::{ROOM, contested, living, roaming};

/// The user of the last event. At the end it is stored in the group.
pub(super) const MARKER: &str = "marker";

/// The pause of a slow reader after each piece. It falls behind during bursts and catches up afterwards.
const SLOWNESS: Duration = Duration::from_millis(30);

pub(super) struct Reader {
    pub(super) source: EventSource,
    memory: Memory,
    tale: Tale,
}

/// What is the same for all readers of an event: the id, or with several partitions, whose ids differ from instance to
/// instance, what happened.
fn id_of(event: &Event) -> String {
    match partitions_of_tests() {
        1 => event.id.clone(),
        _ => format!("{} {:?}", event.brief(), event.timestamp()),
    }
}

/// A change as a reader received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) id: Box<str>,
    pub(super) user: Box<str>,
    /// The reason of an offline; empty for an online. For a reader of the group, the reason of a departure from the
    /// group; empty for a user that joined.
    pub(super) reason: Box<str>,
    /// The time of the change by the clock of Redis.
    pub(super) stamp: Timestamp,
}

/// The events of a reader from one beginning to the next.
#[derive(Debug)]
pub(super) struct Chapter {
    pub(super) began: Timestamp,
    /// The reason of the reset at the beginning, if there was one.
    pub(super) reset: Option<String>,
    /// The snapshot at the beginning, if there was one.
    pub(super) base: Option<BTreeSet<String>>,
    /// For a reader of the group, the members that are online by all messages.
    pub(super) here: BTreeSet<String>,
    /// The changes with the times of their arrival.
    pub(super) changes: Vec<(Timestamp, Change)>,
}

/// Everything that one reader received.
#[derive(Debug)]
pub(super) struct Tale {
    pub(super) name: String,
    pub(super) interest: Option<BTreeSet<String>>,
    /// Whether it reads the group.
    pub(super) of_group: bool,
    pub(super) chapters: Vec<Chapter>,
    /// The number of streams.
    pub(super) streams: usize,
}

impl Reader {
    /// The name and the last event of a reader that is not up to date.
    pub(super) fn last_words(&self) -> String {
        let log = self.source.log();
        let last = &log[log.len().saturating_sub(3)..];
        format!("{} is behind after {last:?}", self.tale.name)
    }

    /// Appends what the reader received since the last call.
    pub(super) fn listen(&mut self) {
        for entry in self.source.take_log() {
            self.tale.take(entry, self.memory);
        }
    }

    pub(super) fn into_tale(mut self) -> Tale {
        self.listen();
        self.tale
    }
}

impl Tale {
    fn take(&mut self, entry: Entry, memory: Memory) {
        match entry.what {
            Heard::Opened => {
                self.streams += 1;
                if memory == Memory::Nothing || self.chapters.is_empty() {
                    self.begin(entry.at, None);
                }
            }
            Heard::Closed(_) => {}
            Heard::Event(event) if event.name == "presence.reset" => {
                let reason = event.json()["reason"].as_str().map(str::to_owned);
                self.begin(entry.at, reason);
            }
            Heard::Event(event) if event.name == "presence.snapshot" => {
                let chapter = self.chapter();
                // The snapshot is read after the stream is opened, so no event before it is missing.
                if chapter.base.is_none() {
                    chapter.began = entry.at;
                }
                let base = chapter.base.get_or_insert_default();
                base.extend(event.online());
                chapter.here.extend(event.online());
            }
            Heard::Event(event) if self.of_group => self.take_of_group(entry.at, &event),
            Heard::Event(event) if event.is_change() => {
                let change = Change {
                    user: event.user().into(),
                    reason: event.reason().into(),
                    stamp: event.timestamp(),
                    id: id_of(&event).into(),
                };
                self.chapter().changes.push((entry.at, change));
            }
            Heard::Event(_) => {}
        }
    }

    fn take_of_group(&mut self, at: Timestamp, event: &Event) {
        let here = &mut self.chapter().here;
        match &*event.name {
            "user.online" => drop(here.insert(event.user())),
            "user.offline" => drop(here.remove(&event.user())),
            "group.joined" => here.extend(event.listed("online")),
            "group.left" => event.listed("userIds").iter().for_each(|user| {
                here.remove(user);
            }),
            _ => return,
        }
        if !event.name.starts_with("group.") {
            return;
        }
        for user in event.listed("userIds") {
            let change = Change {
                id: format!("{} {user}", id_of(event)).into(),
                user: user.into(),
                reason: event.reason().into(),
                stamp: event.timestamp(),
            };
            self.chapter().changes.push((at, change));
        }
    }

    fn begin(&mut self, began: Timestamp, reset: Option<String>) {
        self.chapters.push(Chapter {
            began,
            reset,
            base: None,
            here: BTreeSet::new(),
            changes: Vec::new(),
        });
    }

    fn chapter(&mut self) -> &mut Chapter {
        self.chapters.last_mut().expect("a chapter")
    }

    pub(super) fn is_about(&self, user: &str) -> bool {
        let interest = self.interest.as_ref();
        interest.is_none_or(|users| users.contains(user))
    }
}

/// Starts several readers of each kind, at all instances.
pub(super) fn start(clients: &[Client]) -> Vec<Reader> {
    let some = |from: usize| {
        let users = [living(), roaming(), contested()].concat();
        let chosen = users.into_iter().skip(from).step_by(4);
        Some(chosen.chain([MARKER.to_owned()]).collect())
    };
    let quick = Duration::ZERO;
    let kinds = [
        (None, "", Memory::Cursor, quick),
        (None, "", Memory::Cursor, quick),
        (None, "", Memory::Cursor, quick),
        (None, "", Memory::Cursor, SLOWNESS),
        (None, "?snapshot=true", Memory::Cursor, quick),
        (None, "?snapshot=true", Memory::Cursor, SLOWNESS),
        (None, "?snapshot=true", Memory::Nothing, quick),
        (some(0), "", Memory::Cursor, quick),
        (some(1), "", Memory::Cursor, SLOWNESS),
        (some(2), "?snapshot=true", Memory::Cursor, quick),
        (some(3), "?snapshot=true", Memory::Nothing, quick),
    ];
    let room = format!("?groupIds={ROOM}&snapshot=true");
    let of_group = [
        (None, &*room, Memory::Cursor, quick),
        (None, &*room, Memory::Cursor, SLOWNESS),
        (None, &*room, Memory::Nothing, quick),
    ];
    let readers = kinds.into_iter().chain(of_group).enumerate();
    readers
        .map(|(number, (interest, query, memory, rest))| {
            let is_of_group = query == room;
            let query = with_interest(query, interest.as_ref());
            let name = format!("reader {number} ({query}, {memory:?}, {rest:?})");
            let habits = Habits {
                query,
                memory,
                rest,
            };
            Reader {
                source: EventSource::start(clients, number, habits),
                memory,
                tale: Tale {
                    name,
                    interest,
                    of_group: is_of_group,
                    chapters: Vec::new(),
                    streams: 0,
                },
            }
        })
        .collect()
}

fn with_interest(query: &str, interest: Option<&BTreeSet<String>>) -> String {
    let Some(users) = interest else {
        return query.to_owned();
    };
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let separator = if query.is_empty() { '?' } else { '&' };
    format!("{query}{separator}userIds={}", users.join(","))
}
