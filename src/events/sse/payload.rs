//! The JSON in the `data` of each message. The same types are encoded and documented in OpenAPI.

use std::collections::BTreeMap;

use serde::de::value::StrDeserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{PartialSchema, ToSchema};

use crate::model::{
    Entry, GroupEvent, GroupId, LeftReason, MemberChange, PresenceEvent, Reason, StateFields,
    Timestamp, UserChange, UserId,
};

/// `user.online`: the first connection of the user opened.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserOnline<'a> {
    /// The user that came online.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "alice")]
    pub user_id: &'a UserId,
    /// When the event was announced, on the clock of the store.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:00:00.123Z")]
    pub timestamp: Timestamp,
    /// What is set of the state of the user.
    #[serde(flatten)]
    pub state: StateFields<'a>,
}

/// `user.updated`: the state of an online user changed. The message has the whole state.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserUpdated<'a> {
    /// The user whose state changed.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "alice")]
    pub user_id: &'a UserId,
    /// When the event was announced, on the clock of the store.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:00:30.123Z")]
    pub timestamp: Timestamp,
    /// Whether every live connection of the user is away.
    #[schema(example = true)]
    pub away: bool,
    /// The status that the user states about itself; `null` if there is none.
    #[schema(required, value_type = Option<String>, example = "dnd")]
    pub status: Option<&'a str>,
    /// The data of the status; `null` if there is none.
    #[schema(required, value_type = Option<Object>)]
    pub data: Option<&'a Value>,
}

/// `user.offline`: the last connection of the user closed or expired.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserOffline<'a> {
    /// The user that went offline.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "alice")]
    pub user_id: &'a UserId,
    /// When the event was announced, on the clock of the store.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:01:10.456Z")]
    pub timestamp: Timestamp,
    /// `disconnected`: a call closed the last connection. `expired`: the pings of the user stopped.
    #[schema(schema_with = Reason::schema)]
    pub reason: Reason,
    /// The last moment at which the user was known to be alive.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:00:10.400Z")]
    pub last_seen_at: Timestamp,
}

/// `group.joined`: users became members of a group.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupJoined<'a> {
    /// The group.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "team-7")]
    pub group_id: &'a GroupId,
    /// When the users joined, on the clock of the store.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:00:00.123Z")]
    pub timestamp: Timestamp,
    /// The users. A large change has several messages.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100, example = json!(["carol"]))]
    pub user_ids: Vec<&'a UserId>,
    /// The users among them who are online, as of the `id` of this message.
    #[schema(value_type = Vec<String>, max_items = 100, example = json!(["carol"]))]
    pub online: Vec<&'a UserId>,
}

/// `group.left`: users are not members of a group any more.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupLeft<'a> {
    /// The group.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "team-7")]
    pub group_id: &'a GroupId,
    /// When the users left, on the clock of the store.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:00:00.123Z")]
    pub timestamp: Timestamp,
    /// The users. A large change has several messages.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100, example = json!(["bob"]))]
    pub user_ids: &'a [UserId],
    /// `removed`: a back end removed the users. `disconnected`: a connection closed, or a ping omitted the group.
    /// `expired`: the pings stopped.
    #[schema(schema_with = LeftReason::schema)]
    pub reason: LeftReason,
}

/// The `data` of an event.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum EventData<'a> {
    /// The data of `user.online`.
    Online(UserOnline<'a>),
    /// The data of `user.updated`.
    Updated(UserUpdated<'a>),
    /// The data of `user.offline`.
    Offline(UserOffline<'a>),
    /// The data of `group.joined`.
    Joined(GroupJoined<'a>),
    /// The data of `group.left`.
    Left(GroupLeft<'a>),
    /// The data of `presence.reset`.
    Reset(PresenceReset),
}

impl<'a> EventData<'a> {
    /// The data of an event. `None`: the entry has an unknown kind.
    pub(crate) fn of(entry: &'a Entry) -> Option<Self> {
        match entry {
            Entry::Event(event) => Some(Self::of_user(event)),
            Entry::Group(event) => Some(Self::of_group(event)),
            Entry::Unknown { .. } => None,
        }
    }

    fn of_user(event: &'a PresenceEvent) -> Self {
        let (user_id, timestamp) = (&event.user, event.at);
        match &event.change {
            UserChange::Online { state } => Self::Online(UserOnline {
                user_id,
                timestamp,
                state: StateFields::of(state.as_deref()),
            }),
            UserChange::Updated { state } => {
                let StateFields { away, status, data } = StateFields::of(state.as_deref());
                Self::Updated(UserUpdated {
                    user_id,
                    timestamp,
                    away,
                    status,
                    data,
                })
            }
            &UserChange::Offline {
                reason,
                last_seen_at,
            } => Self::Offline(UserOffline {
                user_id,
                timestamp,
                reason,
                last_seen_at,
            }),
        }
    }

    fn of_group(event: &'a GroupEvent) -> Self {
        let (group_id, timestamp) = (&event.group, event.at);
        match &event.change {
            MemberChange::Joined(joined) => {
                let online = joined.iter().filter(|joined| joined.is_announced);
                Self::Joined(GroupJoined {
                    group_id,
                    timestamp,
                    user_ids: joined.iter().map(|joined| &joined.user).collect(),
                    online: online.map(|joined| &joined.user).collect(),
                })
            }
            MemberChange::Left { users, reason } => Self::Left(GroupLeft {
                group_id,
                timestamp,
                user_ids: users,
                reason: *reason,
            }),
        }
    }

    /// The name of the event.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Online(_) => "user.online",
            Self::Updated(_) => "user.updated",
            Self::Offline(_) => "user.offline",
            Self::Joined(_) => "group.joined",
            Self::Left(_) => "group.left",
            Self::Reset(_) => "presence.reset",
        }
    }
}

/// `presence.snapshot`: the users that are online now, or a part of them. All parts together are the state as of the
/// `id` of the last part. `presence.ready` follows the last part. A stream of groups has one or more messages for each
/// group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PresenceSnapshot<'a> {
    /// Online users. No user occurs twice in all parts about the same group, or about no group.
    #[schema(value_type = Vec<String>, max_items = 1000, example = json!(["bob"]))]
    pub online: &'a [UserId],
    /// The states of the listed users that are away or have a status. Absent if there are none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false, value_type = BTreeMap<String, StateFields>, example = json!({"bob": {"away": true}}))]
    pub states: BTreeMap<&'a UserId, StateFields<'a>>,
    /// The group. Only present in the snapshot of a group.
    #[serde(rename = "groupId", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 128, example = "team-7")]
    pub group_id: Option<&'a GroupId>,
    /// The number of members of the group, online or not. Only present in the snapshot of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 40)]
    pub members: Option<usize>,
}

/// `presence.ready`: the stream has caught up, and every later message is a change. The message
/// follows a snapshot or the missed events, or comes at once. It comes again with a newer `id` if
/// the stream carried no message for a minute while other events happened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PresenceReady {
    /// Number of users in the snapshot. Only present after a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 1)]
    pub count: Option<usize>,
}

/// `presence.end`: the last message of a stream that the server ends. It has no `id`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PresenceEnd {
    /// Why the server ends the stream.
    #[schema(schema_with = EndReason::schema)]
    pub reason: EndReason,
}

/// Why the server ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EndReason {
    /// The stream reached its maximum age.
    MaxAge,
    /// The instance shuts down.
    Draining,
    /// The token of the stream expired, or its API key was withdrawn.
    TokenExpired,
    /// The client reads too slowly.
    TooSlow,
    /// The store failed for too long while the stream began.
    StoreLost,
    /// The store is unreachable, and the stream was not opened.
    StoreUnreachable,
    /// The maximum number of streams is open.
    TooManyStreams,
    /// The instance is overloaded.
    Overloaded,
}

impl EndReason {
    /// Whether the client can still take the queued messages before `presence.end`.
    pub(crate) const fn delivers_queue_first(self) -> bool {
        matches!(self, Self::MaxAge | Self::Draining | Self::TokenExpired)
    }
}

/// `presence.reset`: the client must forget all state that it built from this stream. If the stream
/// was opened with a snapshot, a new snapshot follows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PresenceReset {
    /// Why the stream is reset.
    #[schema(schema_with = ResetReason::schema)]
    pub reason: ResetReason,
}

/// Why a stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ResetReason {
    /// The cursor is not a cursor of this service.
    UnknownCursor,
    /// The history no longer reaches back to the cursor.
    HistoryGone,
    /// The store lost its data.
    DataLost,
    /// The connection ended within a snapshot.
    SnapshotIncomplete,
    /// The cursor is from before the number of partitions of the store changed.
    LayoutChanged,
    /// A watched group, or the set of own groups, changed after the cursor.
    GroupChanged,
}

impl ResetReason {
    /// The reason with this value of `reason` in the message.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = StrDeserializer::<serde::de::value::Error>::new(name);
        Self::deserialize(name).ok()
    }

    /// Returns the value of `reason` in the message.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCursor => "unknown-cursor",
            Self::HistoryGone => "history-gone",
            Self::DataLost => "data-lost",
            Self::SnapshotIncomplete => "snapshot-incomplete",
            Self::LayoutChanged => "layout-changed",
            Self::GroupChanged => "group-changed",
        }
    }
}
