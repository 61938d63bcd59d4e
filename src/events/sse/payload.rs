//! What the `data` of each message holds, in JSON: the same types are written and documented.

use serde::Serialize;
use utoipa::{PartialSchema, ToSchema};

use crate::model::{Reason, Timestamp, UserId};

/// `user.online`: the user's first connection opened.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserOnline<'a> {
    /// Who came online.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "alice")]
    pub user_id: &'a UserId,
    /// When it was announced, on the store's clock.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:00:00.123Z")]
    pub timestamp: Timestamp,
}

/// `user.offline`: the user's last connection closed or expired.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserOffline<'a> {
    /// Who left.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "alice")]
    pub user_id: &'a UserId,
    /// When it was announced, on the store's clock.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:01:10.456Z")]
    pub timestamp: Timestamp,
    /// `disconnected` when a call closed the last connection, `expired` when its pings stopped.
    #[schema(schema_with = Reason::schema)]
    pub reason: Reason,
    /// The last moment the user was known to be alive.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:00:10.400Z")]
    pub last_seen_at: Timestamp,
}

/// `presence.snapshot`: who is online now, or a part of them. All parts together are the state as
/// of the last one's `id`; `presence.ready` follows the last one.
#[derive(Debug, Serialize, ToSchema)]
pub struct PresenceSnapshot<'a> {
    /// Those online, no user twice in all parts.
    #[schema(value_type = Vec<String>, max_items = 1000, example = json!(["bob"]))]
    pub online: &'a [UserId],
}

/// `presence.ready`: the stream has caught up, and every later message is a change. It comes after a
/// snapshot, after the missed events, or at once; and again with a newer `id` when the stream had no
/// message for a minute while other events happened.
#[derive(Debug, Serialize, ToSchema)]
pub struct PresenceReady {
    /// How many users the snapshot named; only after a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 1)]
    pub count: Option<usize>,
}

/// `presence.end`: the last message of a stream that the server ends. It has no `id`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PresenceEnd {
    /// Why the server ends the stream.
    #[schema(schema_with = EndReason::schema)]
    pub reason: EndReason,
}

/// Why the server ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The stream reached its age.
    MaxAge,
    /// The instance shuts down.
    Draining,
    /// The token of the stream expired, or its key was withdrawn.
    TokenExpired,
    /// The reader did not keep up.
    TooSlow,
    /// The store failed for too long while the stream was being opened.
    StoreLost,
    /// The store is out of reach, and the stream could not be opened.
    StoreUnreachable,
    /// There are as many streams as may be open.
    TooManyStreams,
    /// The instance has too much to do to open the stream.
    Overloaded,
}

impl EndReason {
    /// The word that the message names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxAge => "max-age",
            Self::Draining => "draining",
            Self::TokenExpired => "token-expired",
            Self::TooSlow => "too-slow",
            Self::StoreLost => "store-lost",
            Self::StoreUnreachable => "store-unreachable",
            Self::TooManyStreams => "too-many-streams",
            Self::Overloaded => "overloaded",
        }
    }

    /// Whether messages that wait are still delivered before the end, as far as the reader takes
    /// them at once.
    pub(crate) const fn delivers_queue_first(self) -> bool {
        matches!(self, Self::MaxAge | Self::Draining | Self::TokenExpired)
    }
}

/// `presence.reset`: forget what this stream said before. Where a snapshot was asked for, a new
/// one follows.
#[derive(Debug, Serialize, ToSchema)]
pub struct PresenceReset {
    /// Why the stream starts anew.
    #[schema(schema_with = ResetReason::schema)]
    pub reason: ResetReason,
}

/// Why a stream starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResetReason {
    /// The cursor is not one of ours.
    UnknownCursor,
    /// The history does not reach back to the cursor any more.
    HistoryGone,
    /// The store lost its data.
    DataLost,
    /// The stream was cut in the middle of its snapshot.
    SnapshotIncomplete,
}

impl ResetReason {
    /// The word that the message names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCursor => "unknown-cursor",
            Self::HistoryGone => "history-gone",
            Self::DataLost => "data-lost",
            Self::SnapshotIncomplete => "snapshot-incomplete",
        }
    }
}
