//! The bytes of the stream: each message is written once and shared by all who get it.

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

/// How long a client waits before it reconnects, in milliseconds: a random time, so that the readers
/// of an instance that died do not all return in one moment.
const RETRY_MS: RangeInclusive<u32> = 2_000..=5_000;

/// The longest `data` line of a snapshot, in bytes. Parsers that read line by line accept 64 KiB.
const SNAPSHOT_LINE_BYTES: usize = 56 * 1_024;

/// How many users one `presence.snapshot` message names at most.
const USERS_PER_MESSAGE: usize = 1_000;

/// A comment that keeps the connection from looking dead. No blank line follows it: some clients
/// would take that for an empty message.
pub(crate) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n");

/// The line that comes before the first block: when to reconnect.
pub(crate) fn retry() -> String {
    let retry_ms = fastrand::u32(RETRY_MS);
    format!("retry: {retry_ms}\n")
}

/// `user.online` or `user.offline`.
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

/// `presence.snapshot`, a part or all of it.
pub(crate) fn snapshot(cursor: Cursor, online: &[UserId]) -> Bytes {
    message(cursor, "presence.snapshot", &PresenceSnapshot { online })
}

/// The parts of `users`, each for one `presence.snapshot` message: at least one, which may be empty.
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

/// What an id takes in a list in JSON at most: user ids have no control characters, so that only
/// quotes and backslashes are escaped.
fn json_bytes(id: &str) -> usize {
    let escaped = id.bytes().filter(|byte| matches!(byte, b'"' | b'\\'));
    id.len() + escaped.count() + "\"\",".len()
}

/// `presence.ready`: the stream has caught up, after a snapshot of `count` users or without one.
pub(crate) fn ready(cursor: Cursor, count: Option<usize>) -> Bytes {
    message(cursor, "presence.ready", &PresenceReady { count })
}

/// `presence.end`, without an `id`: the client goes on from the one it has.
pub(crate) fn end(reason: EndReason) -> String {
    let mut text = String::new();
    block(&mut text, "presence.end", &PresenceEnd { reason });
    text
}

/// `presence.reset`.
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
        fn a_snapshot_is_all_there_in_lines_that_are_not_too_long(
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
