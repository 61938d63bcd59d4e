//! Encodes messages as Server-Sent Events. A frame is encoded once for all streams.

use std::collections::HashMap;
use std::fmt::{Display, Write};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::events::sse::cursor::{Cursor, Id};
use crate::events::sse::payload::{
    EndReason, EventData, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot, ResetReason,
};
use crate::model::{Entry, GroupId, State, StateFields, UserId};

/// Reconnection time of a client in milliseconds. It is random, so that the clients of a lost
/// instance do not all return at once.
const RETRY_MS: RangeInclusive<u32> = 2_000..=5_000;

/// The longest `data` line of a snapshot in bytes. Parsers that read by lines accept 64 KiB.
const SNAPSHOT_LINE_BYTES: usize = 56 * 1_024;

/// The states of the users in a snapshot of which something is set.
pub(crate) type States = HashMap<UserId, Arc<State>>;

/// Users per `presence.snapshot` message.
const USERS_PER_MESSAGE: usize = 1_000;

/// Space for the size line of a chunk: up to eight hexadecimal digits and CRLF.
const SIZE_LINE: &str = "        \r\n";

const CRLF: &str = "\r\n";

/// Typical bytes of an event with its size line.
const EVENT_BYTES: usize = 256;

/// One or more messages. All streams that carry them share the bytes.
///
/// The bytes are a chunk of an HTTP/1.1 body (RFC 9112, section 7.1), so that no stream copies a
/// message to send it. A frame is never empty: an empty chunk would end the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame(Bytes);

impl Frame {
    /// A comment that shows that the connection is alive. No blank line follows, because some
    /// clients take a blank line for an empty message.
    pub(crate) const KEEP_ALIVE: Self = Self(Bytes::from_static(b"d\r\n: keep-alive\n\r\n"));

    /// An empty comment. The writer sends it to find out whether a half-closed client is gone.
    pub(crate) const COMMENT: Self = Self(Bytes::from_static(b"2\r\n:\n\r\n"));

    /// Returns the frame as a chunk of an HTTP/1.1 body.
    pub(crate) fn chunk(&self) -> Bytes {
        self.0.clone()
    }

    /// Returns the messages without the framing of the chunk. The bytes are not copied.
    pub(crate) fn data(&self) -> Bytes {
        let size_line = self.0.iter().take_while(|byte| **byte != b'\n').count() + 1;
        self.0.slice(size_line..self.0.len() - CRLF.len())
    }

    /// Returns the bytes that the frame takes in memory.
    pub(crate) fn memory(&self) -> usize {
        self.0.len()
    }
}

/// Collects messages for one frame.
struct Encoder(String);

impl Encoder {
    fn with_capacity(bytes: usize) -> Self {
        let mut text = String::with_capacity(bytes);
        text.push_str(SIZE_LINE);
        Self(text)
    }

    fn message(&mut self, id: &impl Display, name: &str, data: &impl Serialize) {
        let _ = writeln!(self.0, "id: {id}");
        self.block(name, data);
    }

    fn block(&mut self, name: &str, data: &impl Serialize) {
        // Writing to a String cannot fail, nor can serializing these plain structs.
        let data = serde_json::to_string(data).unwrap_or_default();
        let _ = write!(self.0, "event: {name}\ndata: {data}\n\n");
    }

    fn entry(&mut self, id: Id<'_>, entry: &Entry) {
        if let Some(data) = EventData::of(entry) {
            self.message(&id, data.name(), &data);
        }
    }

    /// Completes the chunk. Its size is right-aligned in the space for the size line; the unused
    /// space is cut off.
    fn finish(mut self) -> Frame {
        let size = format!("{:x}", self.0.len() - SIZE_LINE.len());
        let digits = SIZE_LINE.len() - CRLF.len();
        let start = digits - size.len();
        self.0.replace_range(start..digits, &size);
        self.0.push_str(CRLF);
        Frame(Bytes::from(self.0).slice(start..))
    }
}

/// Encodes the line that sets the reconnection time.
pub(crate) fn retry() -> Frame {
    let retry_ms = fastrand::u32(RETRY_MS);
    let mut encoder = Encoder::with_capacity(SIZE_LINE.len() + "retry: 5000\n\r\n".len());
    let _ = writeln!(encoder.0, "retry: {retry_ms}");
    encoder.finish()
}

/// Encodes an event of a user or group. The `id` is the cursor of a client that received this event last.
pub(crate) fn event(id: Id<'_>, event: &Entry) -> Frame {
    let mut encoder = Encoder::with_capacity(EVENT_BYTES);
    encoder.entry(id, event);
    encoder.finish()
}

/// Encodes several events in one frame.
pub(crate) struct Events(Option<Encoder>);

impl Events {
    /// Returns an empty frame, with space for `most` events.
    pub(crate) fn with_capacity(most: usize) -> Self {
        Self((most > 0).then(|| Encoder::with_capacity(EVENT_BYTES * most)))
    }

    /// Adds an event.
    pub(crate) fn push(&mut self, id: Id<'_>, event: &Entry) {
        let new = || Encoder::with_capacity(EVENT_BYTES);
        self.0.get_or_insert_with(new).entry(id, event);
    }

    /// Returns the frame. Returns `None` if it has no event.
    pub(crate) fn finish(self) -> Option<Frame> {
        let encoder = self.0?;
        (encoder.0.len() > SIZE_LINE.len()).then(|| encoder.finish())
    }
}

/// Encodes `presence.snapshot`, whole or in part.
///
/// `group` is the group of the users, with the number of its members.
pub(crate) fn snapshot(
    cursor: &Cursor,
    group: Option<(&GroupId, usize)>,
    online: &[UserId],
    states: &States,
) -> Frame {
    let of_these = online.iter().filter(|_| !states.is_empty());
    let of_these = of_these.filter_map(|user| {
        let state = states.get(user)?;
        Some((user, StateFields::of(Some(state))))
    });
    let snapshot = PresenceSnapshot {
        online,
        states: of_these.collect(),
        group_id: group.map(|(group, _)| group),
        members: group.map(|(_, members)| members),
    };
    message(cursor, "presence.snapshot", &snapshot)
}

/// Divides `users` into the parts of a snapshot, one for each message. Returns at least one part,
/// which may be empty.
pub(crate) fn snapshot_parts<'a>(users: &'a [UserId], states: &States) -> Vec<&'a [UserId]> {
    let mut parts = Vec::new();
    let mut rest = users;
    loop {
        let mut bytes = 0;
        let fitting = rest.iter().take(USERS_PER_MESSAGE).take_while(|user| {
            bytes += json_bytes(user.as_str());
            if let Some(state) = states.get(*user) {
                bytes += json_bytes(user.as_str()) + state_bytes(state);
            }
            bytes <= SNAPSHOT_LINE_BYTES
        });
        let (part, after) = rest.split_at(fitting.count());
        parts.push(part);
        rest = after;
        if rest.is_empty() {
            return parts;
        }
    }
}

/// Bytes of an id in a JSON list. User ids have no control characters, so only quotes and
/// backslashes are escaped.
fn json_bytes(id: &str) -> usize {
    let escaped = id.bytes().filter(|byte| matches!(byte, b'"' | b'\\'));
    id.len() + escaped.count() + "\"\",".len()
}

/// Bytes of a state in JSON, with the separators around it.
fn state_bytes(state: &State) -> usize {
    let json = serde_json::to_string(&StateFields::of(Some(state)));
    json.unwrap_or_default().len() + ":,".len()
}

/// Encodes `presence.ready`, after a snapshot of `count` users or without one.
pub(crate) fn ready(id: &impl Display, count: Option<usize>) -> Frame {
    message(id, "presence.ready", &PresenceReady { count })
}

/// Encodes `presence.end`. It has no `id`: the client resumes from its last one.
pub(crate) fn end(reason: EndReason) -> Frame {
    let mut encoder = Encoder::with_capacity(EVENT_BYTES);
    encoder.block("presence.end", &PresenceEnd { reason });
    encoder.finish()
}

/// Encodes `presence.reset`.
pub(crate) fn reset(cursor: &Cursor, reason: ResetReason) -> Frame {
    message(cursor, "presence.reset", &PresenceReset { reason })
}

fn message(id: &impl Display, name: &str, data: &impl Serialize) -> Frame {
    let mut encoder = Encoder::with_capacity(EVENT_BYTES);
    encoder.message(id, name, data);
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Position, Status};
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_snapshot_lists_every_user_in_lines_of_bounded_length(
            ids in vec((0_usize..3, 1_usize..=64), 0..2_000),
        ) {
            let id = |(letter, count): &(usize, usize)| ["\"", "\\", "é"][*letter].repeat(*count);
            let users = ids.iter().map(|parts| UserId::new(&id(parts)).expect("an id"));
            let users: Vec<_> = users.collect();
            let data = serde_json::json!({"a": "\"".repeat(500)});
            let status = Status::new("dnd".to_owned(), Some(data)).ok();
            let state = Arc::new(State { away: true, status });
            let states = users.iter().skip(1).step_by(3);
            let states: States = states.map(|user| (user.clone(), Arc::clone(&state))).collect();
            let parts = snapshot_parts(&users, &states);
            prop_assert_eq!(&parts.concat(), &users);
            let cursor = Cursor::one(Epoch(u64::MAX), Position { millis: u64::MAX, sequence: u64::MAX });
            for part in &parts {
                prop_assert!(!part.is_empty() || parts.len() == 1);
                let message = snapshot(&cursor, None, part, &states).data();
                let longest = message.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
                prop_assert!(longest <= Some(60 * 1_024));
            }
        }
    }

    #[test]
    fn a_chunk_has_the_size_of_its_data() {
        let cursor = Cursor::one(Epoch(1), Position::START);
        let users: Vec<_> = (0..1_000)
            .map(|number| UserId::new(&format!("user-{number}")).expect("an id"))
            .collect();
        let ends = end(EndReason::MaxAge);
        let text = "event: presence.end\ndata: {\"reason\":\"max-age\"}\n\n";
        assert_eq!(ends.data(), text);
        for frame in [
            Frame::KEEP_ALIVE,
            Frame::COMMENT,
            retry(),
            ends,
            snapshot(&cursor, None, &users, &States::default()),
        ] {
            let data = frame.data();
            let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
            chunk.extend_from_slice(&data);
            chunk.extend_from_slice(b"\r\n");
            assert_eq!(frame.chunk(), chunk);
            assert!(
                frame.chunk().as_ptr_range().contains(&data.as_ptr()),
                "copied"
            );
            assert_eq!(frame.clone().chunk().as_ptr(), frame.chunk().as_ptr());
        }
        assert_eq!(Events::with_capacity(0).finish(), None);
        assert_eq!(Events::with_capacity(1).finish(), None);
    }
}
