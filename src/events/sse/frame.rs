//! Encodes messages as Server-Sent Events. A frame is encoded once for all streams.

use std::fmt::Write;
use std::ops::RangeInclusive;

use bytes::Bytes;
use serde::Serialize;

use crate::events::sse::cursor::Cursor;
use crate::events::sse::payload::{
    EndReason, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot, ResetReason,
    UserOffline, UserOnline,
};
use crate::model::{Epoch, PresenceEvent, Transition, UserId};

/// Reconnection time of a client in milliseconds. It is random, so that the clients of a lost
/// instance do not all return at once.
const RETRY_MS: RangeInclusive<u32> = 2_000..=5_000;

/// The longest `data` line of a snapshot in bytes. Parsers that read by lines accept 64 KiB.
const SNAPSHOT_LINE_BYTES: usize = 56 * 1_024;

/// Users per `presence.snapshot` message.
const USERS_PER_MESSAGE: usize = 1_000;

/// A comment that shows that the connection is alive. No blank line follows, because some clients
/// take a blank line for an empty message.
pub(crate) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n");

/// Returns the line that sets the reconnection time.
pub(crate) fn retry() -> String {
    let retry_ms = fastrand::u32(RETRY_MS);
    format!("retry: {retry_ms}\n")
}

/// Encodes `user.online` or `user.offline`.
pub(crate) fn event(epoch: Epoch, event: &PresenceEvent) -> Bytes {
    let cursor = Cursor::at(epoch, event.position);
    let (user_id, timestamp) = (&event.user, event.at);
    match event.transition {
        Transition::Online => {
            let online = UserOnline { user_id, timestamp };
            message(cursor, "user.online", &online)
        }
        Transition::Offline {
            reason,
            last_seen_at,
        } => {
            let offline = UserOffline {
                user_id,
                timestamp,
                reason,
                last_seen_at,
            };
            message(cursor, "user.offline", &offline)
        }
    }
}

/// Encodes `presence.snapshot`, whole or in part.
pub(crate) fn snapshot(cursor: Cursor, online: &[UserId]) -> Bytes {
    message(cursor, "presence.snapshot", &PresenceSnapshot { online })
}

/// Divides `users` into the parts of a snapshot, one for each message. Returns at least one part,
/// which may be empty.
pub(crate) fn snapshot_parts(users: &[UserId]) -> Vec<&[UserId]> {
    let mut parts = Vec::new();
    let mut rest = users;
    loop {
        let mut bytes = 0;
        let fitting = rest.iter().take(USERS_PER_MESSAGE).take_while(|user| {
            bytes += json_bytes(user.as_str());
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

/// Encodes `presence.ready`, after a snapshot of `count` users or without one.
pub(crate) fn ready(cursor: Cursor, count: Option<usize>) -> Bytes {
    message(cursor, "presence.ready", &PresenceReady { count })
}

/// Encodes `presence.end`. It has no `id`: the client resumes from its last one.
pub(crate) fn end(reason: EndReason) -> String {
    let mut text = String::new();
    block(&mut text, "presence.end", &PresenceEnd { reason });
    text
}

/// Encodes `presence.reset`.
pub(crate) fn reset(cursor: Cursor, reason: ResetReason) -> Bytes {
    message(cursor, "presence.reset", &PresenceReset { reason })
}

fn message(cursor: Cursor, name: &str, data: &impl Serialize) -> Bytes {
    let mut text = String::with_capacity(256);
    let _ = writeln!(text, "id: {cursor}");
    block(&mut text, name, data);
    text.into()
}

fn block(text: &mut String, name: &str, data: &impl Serialize) {
    // Writing to a String cannot fail, nor can serializing these plain structs.
    let data = serde_json::to_string(data).unwrap_or_default();
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Position;
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
            let parts = snapshot_parts(&users);
            prop_assert_eq!(&parts.concat(), &users);
            let cursor = Cursor::at(Epoch(u64::MAX), Position { millis: u64::MAX, sequence: u64::MAX });
            for part in &parts {
                prop_assert!(!part.is_empty() || parts.len() == 1);
                let message = snapshot(cursor, part);
                let longest = message.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
                prop_assert!(longest <= Some(60 * 1_024));
            }
        }
    }
}
