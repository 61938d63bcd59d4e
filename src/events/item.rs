//! The messages of a stream as JSON, for receivers that hold no stream.

use serde::Serialize;

use super::sse::cursor::Cursor;
use super::sse::payload::{EventData, PresenceReset, ResetReason};
use crate::model::{Epoch, PresenceEvent};

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

/// An event of a user as JSON.
pub(crate) fn item(epoch: Epoch, event: &PresenceEvent) -> Item<'_> {
    new(Cursor::at(epoch, event.position), EventData::of(event))
}

/// `presence.reset` at `cursor` as JSON.
pub(crate) fn reset_item(cursor: Cursor, reason: ResetReason) -> Item<'static> {
    new(cursor, EventData::Reset(PresenceReset { reason }))
}

fn new(cursor: Cursor, data: EventData<'_>) -> Item<'_> {
    Item {
        id: cursor.to_string(),
        event: data.name(),
        data,
    }
}
