//! The response to connect and ping.

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{ConnectionId, Timestamp, UserId};

/// An open connection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectResult {
    /// The user of the connection.
    #[schema(value_type = String, example = "alice")]
    pub(super) user_id: UserId,
    /// The id of the connection. The unnamed connection has the id `"1"`.
    #[schema(value_type = String, example = "phone-1")]
    pub(super) connection_id: ConnectionId,
    /// Always true, because the connection is open.
    pub(super) online: bool,
    /// Whether this call brought the user online. Exactly then one `user.online` is published.
    pub(super) became_online: bool,
    /// When the connection expires without another ping.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:01:00.123Z")]
    pub(super) expires_at: Timestamp,
    /// How long a connection lives after its last ping, in milliseconds.
    #[schema(minimum = 1, example = 60000)]
    pub(super) ttl_ms: u64,
    /// How often the client should ping, in milliseconds.
    #[schema(minimum = 1, example = 25000)]
    pub(super) ping_interval_ms: u64,
}
