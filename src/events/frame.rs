//! The bytes of the stream: each message is written once and shared by all who get it.

use std::fmt::Write;

use bytes::Bytes;
use serde::Serialize;

use super::Cursor;
use super::payload::{
    PresenceReady, PresenceReset, PresenceSnapshot, ResetReason, UserOffline, UserOnline,
};
use crate::presence::{Epoch, PresenceEvent, Transition, UserId};

/// How long a client waits before it reconnects, in milliseconds.
const RETRY_MS: u32 = 3_000;

/// A comment that keeps the connection from looking dead.
pub(super) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// The first bytes: when to reconnect and, where nothing else will say so soon, from where.
///
/// An `id` without `data` is remembered by the client and not dispatched (WHATWG HTML, 9.2.6), so
/// a stream that is cut before its first event resumes too.
pub(super) fn head(from: Option<Cursor>) -> Bytes {
    match from {
        Some(cursor) => format!("retry: {RETRY_MS}\nid: {cursor}\n\n").into(),
        None => format!("retry: {RETRY_MS}\n\n").into(),
    }
}

/// A comment that also moves the cursor on, for a stream that long had no event of its own.
pub(super) fn keep_alive_at(cursor: Cursor) -> Bytes {
    format!(": keep-alive\nid: {cursor}\n\n").into()
}

/// `user.online` or `user.offline`.
pub(super) fn event(epoch: Epoch, event: &PresenceEvent) -> Bytes {
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
                reason: reason.as_str(),
                last_seen_at,
            };
            message(cursor, "user.offline", &offline)
        }
    }
}

/// `presence.snapshot`, a part or all of it.
pub(super) fn snapshot(cursor: Cursor, online: &[UserId]) -> Bytes {
    message(cursor, "presence.snapshot", &PresenceSnapshot { online })
}

/// `presence.ready`: the snapshot is complete.
pub(super) fn ready(cursor: Cursor, count: usize) -> Bytes {
    message(cursor, "presence.ready", &PresenceReady { count })
}

/// `presence.reset`.
pub(super) fn reset(cursor: Cursor, reason: ResetReason) -> Bytes {
    let reason = reason.as_str();
    message(cursor, "presence.reset", &PresenceReset { reason })
}

fn message(cursor: Cursor, name: &str, data: &impl Serialize) -> Bytes {
    let mut text = String::with_capacity(256);
    // Writing to a String cannot fail, nor can serializing these plain structs.
    let _ = write!(text, "id: {cursor}\nevent: {name}\ndata: ");
    text.push_str(&serde_json::to_string(data).unwrap_or_default());
    text.push_str("\n\n");
    text.into()
}
