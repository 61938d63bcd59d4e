//! What a client with the messages of a stream believes.

use std::collections::BTreeSet;

use harness::sse::{Event, EventSource, Heard};

/// The state of a client, and what changed it. The client follows the guides: after a reset, the next snapshot is what
/// counts.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) online: BTreeSet<String>,
    pub(super) resets: Vec<String>,
    /// The users that ever came online by an event.
    pub(super) seen: BTreeSet<String>,
    departures: Vec<String>,
    /// What the snapshot under way has so far.
    coming: Option<BTreeSet<String>>,
}

impl Story {
    /// Panics if an event was missing or repeated between two resets: then the events of a user do not alternate.
    pub(super) fn of(source: &EventSource) -> Self {
        let mut story = Self::default();
        for entry in source.log() {
            if let Heard::Event(event) = entry.what {
                story.take(&event);
            }
        }
        story
    }

    fn take(&mut self, event: &Event) {
        match &*event.name {
            "presence.reset" => {
                self.resets.push(event.reason());
                self.coming = None;
            }
            "presence.snapshot" => {
                let coming = self.coming.get_or_insert_default();
                coming.extend(event.online());
            }
            "presence.ready" => {
                let Some(snapshot) = self.coming.take() else {
                    return;
                };
                let gone = self.online.difference(&snapshot);
                self.departures.extend(gone.cloned());
                self.online = snapshot;
            }
            "user.online" => {
                assert!(self.online.insert(event.user()), "{event:?}");
                self.seen.insert(event.user());
            }
            "user.offline" => {
                assert!(self.online.remove(&event.user()), "{event:?}");
                self.departures.push(event.user());
            }
            _ => {}
        }
    }

    /// Number of times that the user went offline, by an event or because a snapshot did not have it.
    pub(super) fn departures_of(&self, user: &str) -> usize {
        self.departures.iter().filter(|each| *each == user).count()
    }
}
