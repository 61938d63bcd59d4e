//! The batches of events that receivers get.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::Serialize;

use super::place::Place;
use crate::events::{Item, ResetReason, item, reset_item};
use crate::model::{Entry, History, Partition, Position, Timestamp};
use crate::store::{Store, StoreError};

/// The most events of a batch.
pub(super) const MAX_EVENTS: usize = 100;

/// The bytes of the digest that identify a webhook.
const ID_BYTES: usize = 16;

/// The bounds of a batch, as the store keeps them. They determine the events, so that a successor of the sender sends
/// the same batch again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// The position before the first event.
    pub(super) from: Place,
    /// The position of the last entry.
    pub(super) end: Place,
    /// Why the batch begins with `presence.reset`, if it does.
    pub(super) reset: Option<ResetReason>,
}

/// A batch with its entries.
#[derive(Clone, Debug)]
pub(super) struct FilledBatch {
    pub(super) batch: Batch,
    pub(super) entries: Vec<Entry>,
}

/// What a receiver gets: the same id and the same bytes with each attempt.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    pub(super) id: String,
    pub(super) body: Bytes,
}

/// The text is not the bounds of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidBatch;

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: Events<'a>,
}

#[derive(Serialize)]
struct Events<'a> {
    events: Vec<Item<'a>>,
}

impl Batch {
    /// The batch after `cursor`: at most [`MAX_EVENTS`] entries. `None` if there is nothing to send. If entries after
    /// the cursor are gone, the batch begins with a reset.
    pub(super) async fn after(
        store: &Store,
        partition: Partition,
        cursor: Place,
    ) -> Result<Option<FilledBatch>, StoreError> {
        let mut history = store
            .history(partition, cursor.position, MAX_EVENTS)
            .await?;
        let (mut from, mut reset) = (cursor.position, None);
        if history.epoch != cursor.epoch {
            (from, reset) = (Position::START, Some(ResetReason::DataLost));
            history = store.history(partition, from, MAX_EVENTS).await?;
        }
        if !history.continues(from) {
            from = match history.entries.first() {
                Some(first) => first.previous(),
                None => history.newest,
            };
            reset = reset.or(Some(ResetReason::HistoryGone));
        }
        let epoch = history.epoch;
        let entries = without_gap(history.entries);
        let end = entries.last().map_or(from, Entry::position);
        let batch = Self {
            from: Place {
                epoch,
                position: from,
            },
            end: Place {
                epoch,
                position: end,
            },
            reset,
        };
        let is_empty = entries.is_empty() && reset.is_none();
        Ok((!is_empty).then_some(FilledBatch { batch, entries }))
    }

    /// The entries of this batch; `None` if the store no longer has all of them.
    pub(super) async fn filled(
        self,
        store: &Store,
        partition: Partition,
    ) -> Result<Option<FilledBatch>, StoreError> {
        let history = store
            .history(partition, self.from.position, MAX_EVENTS)
            .await?;
        Ok(self.filled_from(history))
    }

    fn filled_from(self, history: History) -> Option<FilledBatch> {
        if history.epoch != self.from.epoch || !history.continues(self.from.position) {
            return None;
        }
        let mut entries = without_gap(history.entries);
        entries.retain(|entry| entry.position() <= self.end.position);
        let end = entries.last().map_or(self.from.position, Entry::position);
        let batch = self;
        (end == self.end.position).then_some(FilledBatch { batch, entries })
    }
}

/// The entries before the first gap. The batch after them begins with a reset.
fn without_gap(mut entries: Vec<Entry>) -> Vec<Entry> {
    let gap = entries
        .windows(2)
        .position(|pair| pair[1].previous() != pair[0].position());
    entries.truncate(gap.map_or(entries.len(), |before| before + 1));
    entries
}

impl FilledBatch {
    /// The number of events that streams carry, too. Entries of an unknown kind are none.
    pub(super) fn events(&self) -> usize {
        let is_known = |entry: &&Entry| !matches!(entry, Entry::Unknown { .. });
        self.entries.iter().filter(is_known).count()
    }

    /// When the first entry was written.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.entries.first().map(Entry::at)
    }

    /// The webhook of this batch; `None` if it has no message. The id of each message begins with `partition`, the number
    /// of the partition unless the store has only one.
    pub(super) fn webhook(&self, receiver: &str, partition: &str) -> Option<Webhook> {
        let Batch { from, end, reset } = self.batch;
        let reset = reset.map(|reason| reset_item(format!("{partition}{from}"), reason));
        let events = self.entries.iter().filter_map(|entry| {
            let place = Place {
                position: entry.position(),
                ..end
            };
            item(format!("{partition}{place}"), entry)
        });
        let events: Vec<_> = reset.into_iter().chain(events).collect();
        if events.is_empty() {
            return None;
        }
        let body = Body {
            r#type: "presence.events",
            timestamp: Timestamp::from_millis(end.position.millis),
            data: Events { events },
        };
        // Serializing these plain structs cannot fail.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let id = digest(
            &SHA256,
            format!("{receiver}\n{partition}{}", self.batch).as_bytes(),
        );
        let id = id.as_ref().iter().take(ID_BYTES);
        let id: String = id.map(|byte| format!("{byte:02x}")).collect();
        Some(Webhook {
            id: format!("msg_{id}"),
            body: body.into(),
        })
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reset = self.reset.map_or("-", ResetReason::as_str);
        write!(f, "{} {} {reset}", self.from, self.end)
    }
}

impl FromStr for Batch {
    type Err = InvalidBatch;

    fn from_str(text: &str) -> Result<Self, InvalidBatch> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [from, end, reset] = parts[..] else {
            return Err(InvalidBatch);
        };
        let reset = match reset {
            "-" => None,
            reason => Some(ResetReason::named(reason).ok_or(InvalidBatch)?),
        };
        Ok(Self {
            from: from.parse().map_err(|_| InvalidBatch)?,
            end: end.parse().map_err(|_| InvalidBatch)?,
            reset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::{ConnectionId, Epoch, UserId};

    async fn store_with(users: usize) -> Store {
        let store = Store::open(&Config::default()).expect("a store in memory");
        for user in 0..users {
            let user = UserId::new(&format!("user {user}")).expect("an id");
            let connection = ConnectionId::unnamed();
            store
                .connect(&user, &connection)
                .await
                .expect("a connection");
        }
        store
    }

    async fn start_of(store: &Store) -> Place {
        let newest = store.newest_of(Partition::FIRST).await;
        let (epoch, _) = newest.expect("an embedded store");
        Place {
            epoch,
            position: Position::START,
        }
    }

    #[tokio::test]
    async fn batches_follow_each_other_and_each_can_be_read_again() {
        let store = store_with(250).await;
        let mut cursor = start_of(&store).await;
        let mut sizes = Vec::new();
        let mut ids = Vec::new();
        while let Some(filled) = Batch::after(&store, Partition::FIRST, cursor)
            .await
            .expect("a history")
        {
            sizes.push(filled.events());
            let webhook = filled.webhook("crm", "").expect("events");
            let text = filled.batch.to_string();
            let again: Batch = text.parse().expect("its own text");
            let again = again
                .filled(&store, Partition::FIRST)
                .await
                .expect("a history");
            let again = again
                .expect("all entries")
                .webhook("crm", "")
                .expect("events");
            assert_eq!((&again.id, &again.body), (&webhook.id, &webhook.body));
            ids.push(webhook.id);
            cursor = filled.batch.end;
        }
        assert_eq!(sizes, [100, 100, 50]);
        ids.dedup();
        assert_eq!(ids.len(), 3);
    }

    #[tokio::test]
    async fn a_cursor_of_another_data_set_begins_with_a_reset() {
        let store = store_with(2).await;
        let lost = Place {
            epoch: Epoch(1),
            position: Position {
                millis: 9,
                sequence: 0,
            },
        };
        let filled = Batch::after(&store, Partition::FIRST, lost)
            .await
            .expect("a history");
        let filled = filled.expect("a reset");
        assert_eq!(filled.batch.reset, Some(ResetReason::DataLost));
        assert_eq!(filled.events(), 2);
        let body = filled.webhook("crm", "").expect("events").body;
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(
            body.contains(r#""event":"presence.reset","data":{"reason":"data-lost"}"#),
            "{body}"
        );
        assert!(
            body.find("presence.reset") < body.find("user.online"),
            "{body}"
        );
    }

    #[tokio::test]
    async fn a_position_that_the_history_does_not_have_begins_with_a_reset() {
        let store = store_with(2).await;
        let start = start_of(&store).await;
        let gone = Place {
            epoch: start.epoch,
            position: Position {
                millis: 9,
                sequence: 0,
            },
        };
        let filled = Batch::after(&store, Partition::FIRST, gone)
            .await
            .expect("a history");
        let filled = filled.expect("a reset");
        assert_eq!(filled.batch.reset, Some(ResetReason::HistoryGone));
        assert_eq!(filled.events(), 2);
    }

    #[test]
    fn any_other_text_is_refused() {
        for text in [
            "",
            "1.2.3",
            "1.2.3 1.2.4",
            "1.2.3 1.2.4 soon",
            "1.2.3 1.2.4 - -",
        ] {
            assert_eq!(text.parse::<Batch>(), Err(InvalidBatch), "{text}");
        }
    }
}
