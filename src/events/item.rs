//! The messages of a stream as JSON, for receivers that hold no stream.

use serde::Serialize;

use super::sse::payload::{EventData, PresenceReset, ResetReason};
use crate::model::Entry;

/// A message of a stream as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Item<'a> {
    /// The place of the message, which no other message has.
    id: String,
    /// The name of the event.
    event: &'static str,
    /// The data, as streams carry it.
    data: EventData<'a>,
}

/// An event as JSON. `None`: the entry has an unknown kind.
pub(crate) fn item(id: String, entry: &Entry) -> Option<Item<'_>> {
    Some(new(id, EventData::of(entry)?))
}

/// `presence.reset` as JSON.
pub(crate) fn reset_item(id: String, reason: ResetReason) -> Item<'static> {
    new(id, EventData::Reset(PresenceReset { reason }))
}

fn new(id: String, data: EventData<'_>) -> Item<'_> {
    Item {
        id,
        event: data.name(),
        data,
    }
}
