//! Events as JSON, for webhooks.

use serde::Serialize;

use super::sse::cursor::{Cursor, Id};
use super::sse::payload::{EventData, PresenceReset, ResetReason};
use crate::model::Entry;

/// A message of a stream as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Item<'a> {
    /// The `id` of the message.
    id: String,
    /// The name of the event.
    event: &'static str,
    /// The data, as streams carry it.
    data: EventData<'a>,
}

/// An event as JSON. `None`: the entry has an unknown kind.
pub(crate) fn item<'a>(id: Id<'_>, entry: &'a Entry) -> Option<Item<'a>> {
    Some(new(id.to_string(), EventData::of(entry)?))
}

/// `presence.reset` at `cursor` as JSON.
pub(crate) fn reset_item(cursor: &Cursor, reason: ResetReason) -> Item<'static> {
    new(
        cursor.to_string(),
        EventData::Reset(PresenceReset { reason }),
    )
}

fn new(id: String, data: EventData<'_>) -> Item<'_> {
    Item {
        id,
        event: data.name(),
        data,
    }
}
