//! The messages of a stream as a list, for clients that hold no stream.

use std::future::poll_fn;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{RefBuilder, Schema};

use super::sse::frame::Frame;
use super::sse::message::{Message, messages};
use super::stream::EventStream;
use super::stream_service::{MORE, OpenError, StreamRequest, StreamService};
use crate::store::StoreError;

/// The most items of a list.
const MAX_ITEMS: usize = 1_000;

/// How long a call waits until its list has everything that the store held, in addition to the wait for an event.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages of a stream, and the place where the next call continues.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct EventList {
    /// The messages in their order.
    #[schema(max_items = 1000)]
    events: Vec<ListedEvent>,
    /// The `lastEventId` of the next call. It advances even if no event matched.
    #[schema(example = "64a5c2f0b1c3d.19a4d0f1b2c.0")]
    cursor: String,
    /// Whether more messages are kept than this response has.
    #[schema(example = false)]
    more: bool,
}

/// A message of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedEvent {
    /// The cursor of a client that received everything up to this message.
    #[schema(example = "64a5c2f0b1c3d.19a4d0f1b2c.0")]
    id: String,
    /// The name of the event.
    #[schema(example = "user.online")]
    event: String,
    /// The data of the event.
    #[schema(schema_with = data_schema)]
    data: Box<RawValue>,
}

fn data_schema() -> RefOr<Schema> {
    let data = RefBuilder::new().ref_location_from_schema_name("EventData");
    data.description(Some("The data of the event.")).into()
}

/// A list while its messages are read.
#[derive(Debug, Default)]
struct Reading {
    list: EventList,
    /// Whether the list has everything that the store held when the call arrived.
    caught_up: bool,
}

impl Reading {
    fn take(&mut self, frame: &Frame) {
        let data = frame.data();
        for message in messages(str::from_utf8(&data).unwrap_or_default()) {
            if self.list.more {
                return;
            }
            self.take_message(message);
        }
    }

    fn take_message(&mut self, message: Message<'_>) {
        let Message {
            id: Some(id),
            event,
            data,
        } = message
        else {
            // This is `presence.end`. The stream ends after it.
            return;
        };
        let is_ready = event == "presence.ready";
        let has_caught_up_without_snapshot = is_ready && data == "{}";
        if event == "presence.reset" {
            // The client must forget what the events before the reset say.
            self.list.events.clear();
            self.caught_up = false;
        }
        if !has_caught_up_without_snapshot {
            if self.list.events.len() == MAX_ITEMS {
                self.list.more = true;
                return;
            }
            let Ok(data) = RawValue::from_string(data.to_owned()) else {
                return;
            };
            self.list.events.push(ListedEvent {
                id: id.to_owned(),
                event: event.to_owned(),
                data,
            });
        }
        id.clone_into(&mut self.list.cursor);
        self.caught_up |= is_ready;
    }

    /// The time until which the next message is awaited.
    fn end_of_wait(&self, catch_up_by: Instant, wait_until: Instant) -> Instant {
        if !self.caught_up {
            catch_up_by
        } else if self.list.events.is_empty() {
            wait_until
        } else {
            Instant::now()
        }
    }
}

impl StreamService {
    /// Returns the messages that a stream with this request has, at most 1,000. If there are none, waits for the first
    /// one for up to `wait`. The list has everything that the store held when the call arrived.
    ///
    /// Fails if the store is unreachable, or if there are too many streams and the call would wait.
    pub(crate) async fn list(
        &self,
        request: StreamRequest,
        wait: Duration,
    ) -> Result<EventList, OpenError> {
        let requested_at = request.requested_at;
        self.receive_stored(&request.wanted, requested_at).await?;
        let waits = !wait.is_zero();
        let _permit = waits.then(|| self.waiting_permit()).transpose()?;
        let stream = self.open(request).await?;
        Ok(read(&stream, requested_at + wait).await?)
    }
}

async fn read(stream: &EventStream, wait_until: Instant) -> Result<EventList, StoreError> {
    let mut reading = Reading::default();
    let mut catch_up_by = Instant::now() + CATCH_UP_TIMEOUT;
    while !reading.list.more {
        let had_caught_up = reading.caught_up;
        let next = poll_fn(|context| stream.poll_next(context));
        let until = reading.end_of_wait(catch_up_by, wait_until);
        match timeout_at(until, next).await {
            Ok(Some(frame)) => reading.take(&frame),
            Ok(None) | Err(_) if had_caught_up => break,
            Ok(None) | Err(_) => {
                let cause = "the events of the store were not received in time";
                return Err(StoreError::Unreachable(cause.to_owned()));
            }
        }
        if had_caught_up && !reading.caught_up {
            catch_up_by = Instant::now() + CATCH_UP_TIMEOUT;
        }
    }
    if reading.list.more {
        reading.list.cursor += MORE;
    }
    Ok(reading.list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::sse::cursor::{Cursor, Id};
    use crate::events::sse::frame;
    use crate::events::sse::payload::ResetReason;
    use crate::model::{Entry, Epoch, Position, PresenceEvent, Timestamp, UserChange, UserId};

    fn at(millis: u64) -> Position {
        Position {
            millis,
            sequence: 0,
        }
    }

    fn cursor(millis: u64) -> Cursor {
        Cursor::one(Epoch(1), at(millis))
    }

    fn event(millis: u64) -> Frame {
        let event = PresenceEvent {
            position: at(millis),
            previous: at(millis - 1),
            user: UserId::new("alice").expect("an id"),
            at: Timestamp::from_millis(millis),
            change: UserChange::Online { state: None },
        };
        frame::event(Id::One(Epoch(1), at(millis)), &Entry::Event(event))
    }

    fn names(reading: &Reading) -> Vec<&str> {
        let events = reading.list.events.iter();
        events.map(|each| &*each.event).collect()
    }

    #[test]
    fn the_list_is_cut_before_its_first_excess_item_and_not_before_it_has_caught_up() {
        let mut reading = Reading::default();
        for millis in 1..=MAX_ITEMS as u64 {
            reading.take(&event(millis));
        }
        assert!(!reading.list.more && !reading.caught_up);
        reading.take(&frame::ready(&cursor(2_000), None));
        assert!(!reading.list.more && reading.caught_up);
        assert_eq!(reading.list.cursor, cursor(2_000).to_string());
        reading.take(&event(2_001));
        assert!(reading.list.more);
        assert_eq!(reading.list.events.len(), MAX_ITEMS);
        assert_eq!(reading.list.cursor, cursor(2_000).to_string());
    }

    #[test]
    fn a_reset_voids_the_events_before_it_and_only_a_snapshot_lists_presence_ready() {
        let mut reading = Reading::default();
        reading.take(&event(1));
        reading.take(&frame::ready(&cursor(1), None));
        assert_eq!(names(&reading), ["user.online"]);
        reading.take(&frame::reset(&cursor(1), ResetReason::DataLost));
        assert!(!reading.caught_up);
        reading.take(&frame::snapshot(
            &cursor(5),
            None,
            &[],
            &frame::States::default(),
        ));
        assert!(!reading.caught_up);
        reading.take(&frame::ready(&cursor(5), Some(0)));
        assert!(reading.caught_up);
        let expected = ["presence.reset", "presence.snapshot", "presence.ready"];
        assert_eq!(names(&reading), expected);
    }
}
