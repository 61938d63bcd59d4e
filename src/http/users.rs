//! Calls about one user: connect, ping, disconnect, state.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Error;
use super::extract::{NoBody, OptionalJson, WholeNumber};
use super::json_line::JsonLine;
use super::openapi::UserIdInPath;
use super::openapi::responses::{ConnectRefused, PingRefused};
use super::permissions::{ActingFor, Disconnecting, Seeing};
use super::query::NoQuery;
use super::state::AppState;
use super::statement::{ConnectBody, Statement, connection_id};
use super::user_status::UserStatus;
use crate::model::{
    Closing, Connected, ConnectionId, GroupId, Timestamp, UserId, millis, scaled_interval,
};

/// The bounds of a grace period, in milliseconds.
const GRACE_MS: (u64, u64) = (0, 60_000);

/// The connections to close. Without a body, it is the unnamed connection of the user.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"connectionId": "phone-1"}))]
pub(super) struct DisconnectBody {
    /// The id of the connection, for example of a device or tab: 1 to 64 characters of `A-Z a-z 0-9 . _ ~ : @ -`.
    /// Default: the unnamed connection, `"1"`.
    #[schema(pattern = "^[A-Za-z0-9._~:@-]{1,64}$", example = "phone-1")]
    connection_id: Option<String>,
    /// `true` closes all connections of the user. `connectionId` must be absent then.
    #[serde(default)]
    #[schema(example = false)]
    all: bool,
    /// How long a connect of the same connection can still cancel the disconnect, in milliseconds. Until then the
    /// connection counts as before, but not longer than it would live anyway. Default: as the service is configured
    /// (`PRESENCE_DISCONNECT_GRACE`, 0 by default). Must be absent if `all` is true.
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 60_000, example = 5_000)]
    grace_ms: Option<WholeNumber>,
}

/// An open connection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectResult {
    /// The user of the connection.
    #[schema(value_type = String, example = "alice")]
    user_id: UserId,
    /// The id of the connection. The unnamed connection has the id `"1"`.
    #[schema(value_type = String, example = "phone-1")]
    connection_id: ConnectionId,
    /// Always true, because the connection is open.
    online: bool,
    /// Whether this call brought the user online. Exactly then one `user.online` is published.
    became_online: bool,
    /// When the connection expires without another ping.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:01:00.123Z")]
    expires_at: Timestamp,
    /// How long a connection lives after its last ping, in milliseconds.
    #[schema(minimum = 1, example = 60000)]
    ttl_ms: u64,
    /// How often the client should ping, in milliseconds.
    #[schema(minimum = 1, example = 25000)]
    ping_interval_ms: u64,
    /// The `away` of the request. Absent if it was absent there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = false)]
    away: Option<bool>,
    /// The groups of the request that accepted the user. A group that is full, or that cannot be reached at the moment,
    /// is missing; the next ping tries it again. Absent if `groups` was absent in the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Vec<String>>, example = json!(["doc-42"]))]
    groups: Option<Vec<GroupId>>,
}

/// The result of a disconnect.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DisconnectResult {
    /// The user of the connection.
    #[schema(value_type = String, example = "alice")]
    user_id: UserId,
    /// The id of the closed connection; `null` if all were closed.
    #[schema(required, value_type = Option<String>, example = "phone-1")]
    connection_id: Option<ConnectionId>,
    /// Whether the user is still online: by another connection, or during a grace period.
    online: bool,
    /// Whether this call took the user offline. Exactly then one `user.offline` is published.
    became_offline: bool,
    /// When the connection ends. Only present if it was open and leaves with a grace period.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>, format = DateTime, example = "2026-11-24T08:00:05.123Z")]
    leaves_at: Option<Timestamp>,
}

/// The state of a user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserState {
    /// The user.
    #[schema(value_type = String, example = "alice")]
    user_id: UserId,
    /// Whether the user has at least one open connection.
    online: bool,
    /// The last time at which the user was known to be alive; `null` if it is unknown or no longer kept.
    #[schema(required, value_type = Option<String>, format = DateTime, example = "2026-11-24T08:00:00.123Z")]
    last_seen_at: Option<Timestamp>,
    /// Whether the user is online and every open connection is away.
    away: bool,
    /// The status that the user states about itself, online or not; `null` if there is none.
    #[schema(required, value_type = Option<UserStatus>)]
    status: Option<UserStatus>,
    /// The open connections, sorted by id.
    connections: Vec<UserConnection>,
}

/// An open connection of a user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserConnection {
    /// The id of the connection. The unnamed connection has the id `"1"`.
    #[schema(value_type = String, example = "phone-1")]
    connection_id: ConnectionId,
    /// When the connection expires without another ping.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:01:00.123Z")]
    expires_at: Timestamp,
    /// The time of the connect or the last ping.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:00:00.123Z")]
    last_ping_at: Timestamp,
    /// How long the connection lives after a ping, in milliseconds.
    #[schema(minimum = 1, example = 60_000)]
    ttl_ms: u64,
    /// Whether the user is away at this connection.
    #[schema(example = false)]
    away: bool,
    /// When the connection ends after a disconnect with a grace period; `null` if it does not leave.
    #[schema(required, value_type = Option<String>, format = DateTime, example = json!(null))]
    leaves_at: Option<Timestamp>,
}

/// Open a connection
///
/// Opens a connection of the user, or extends an open one. The content type is not checked.
#[utoipa::path(
    post, path = "/v1/users/{userId}/connect", tag = "users", operation_id = "connect",
    security(("bearer" = [])),
    params(UserIdInPath),
    request_body(content = ConnectBody, description = "Optional. Without a body, the call is about the unnamed connection of the user"),
    responses(
        (status = 200, body = ConnectResult, description = "The connection is open", example = json!({"userId": "alice", "connectionId": "phone-1", "online": true, "becameOnline": true, "expiresAt": "2026-11-24T08:01:00.123Z", "ttlMs": 60000, "pingIntervalMs": 25000})),
        ConnectRefused,
    )
)]
pub(super) async fn connect(
    ActingFor(user, caller): ActingFor,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    OptionalJson(body): OptionalJson<ConnectBody>,
) -> Result<JsonLine<ConnectResult>, Error> {
    let call = Statement::read(body, &state.config.presence, &caller)?;
    let result = state
        .presence
        .connect(&user, &call.connection, &call.stated);
    let result = result.await?;
    Ok(connect_result(&state, user, call, &result))
}

/// Keep a connection alive
///
/// Clients call this every `pingIntervalMs`. If the connection has expired, the ping opens it again and the user comes
/// back online. From a disconnect until 10 s after the connection ended, a ping is refused, because it was probably
/// sent before the disconnect. The content type is not checked.
#[utoipa::path(
    post, path = "/v1/users/{userId}/ping", tag = "users", operation_id = "ping",
    security(("bearer" = [])),
    params(UserIdInPath),
    request_body(content = ConnectBody, description = "Optional. Without a body, the call is about the unnamed connection of the user"),
    responses(
        (status = 200, body = ConnectResult, description = "The connection is open", example = json!({"userId": "alice", "connectionId": "phone-1", "online": true, "becameOnline": true, "expiresAt": "2026-11-24T08:01:00.123Z", "ttlMs": 60000, "pingIntervalMs": 25000})),
        PingRefused,
    )
)]
pub(super) async fn ping(
    ActingFor(user, caller): ActingFor,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    OptionalJson(body): OptionalJson<ConnectBody>,
) -> Result<JsonLine<ConnectResult>, Error> {
    let call = Statement::read(body, &state.config.presence, &caller)?;
    let result = state.presence.ping(&user, &call.connection, &call.stated);
    let result = result.await?;
    Ok(connect_result(&state, user, call, &result))
}

/// Close a connection
///
/// Closes one connection or all connections of the user. The user goes offline with the last connection. With a grace
/// period, the connection ends later, unless a connect of the same connection comes before. The call succeeds also if
/// the connection is not open. The content type is not checked, so that `navigator.sendBeacon` can send the request.
#[utoipa::path(
    post, path = "/v1/users/{userId}/disconnect", tag = "users", operation_id = "disconnect",
    security(("bearer" = [])),
    params(UserIdInPath),
    request_body(content = DisconnectBody, description = "Optional. Without a body, the call is about the unnamed connection of the user"),
    responses(
        (status = 200, body = DisconnectResult, description = "The connection is closed", example = json!({"userId": "alice", "connectionId": "phone-1", "online": false, "becameOffline": true})),
    )
)]
pub(super) async fn disconnect(
    Disconnecting(user): Disconnecting,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    OptionalJson(body): OptionalJson<DisconnectBody>,
) -> Result<JsonLine<DisconnectResult>, Error> {
    let grace = body
        .grace_ms
        .map(|grace| grace.millis_within(GRACE_MS))
        .transpose();
    let grace = grace.map_err(|(least, most)| Error::InvalidGrace { least, most })?;
    let closing = match (body.all, body.connection_id) {
        (true, Some(_)) => return Err(Error::ConnectionIdAndAll),
        (true, None) if grace.is_some() => return Err(Error::GraceAndAll),
        (true, None) => Closing::All,
        (false, named) => {
            let connection = connection_id(named)?;
            match grace.unwrap_or(state.config.presence.disconnect_grace) {
                Duration::ZERO => Closing::One(connection),
                grace => Closing::Later(connection, grace),
            }
        }
    };
    let result = state.presence.disconnect(&user, &closing).await?;
    let connection_id = match closing {
        Closing::One(connection) | Closing::Later(connection, _) => Some(connection),
        Closing::All => None,
    };
    Ok(JsonLine(DisconnectResult {
        user_id: user,
        connection_id,
        online: result.online,
        became_offline: result.became_offline,
        leaves_at: result.leaves_at,
    }))
}

/// Get the state of a user
///
/// Returns whether the user is online, when the user was last seen, its status, and what each open connection was
/// granted. The result is exact to the millisecond. An unknown user is offline; the status is 200 and not 404.
#[utoipa::path(
    get, path = "/v1/users/{userId}", tag = "users", operation_id = "getUser",
    security(("bearer" = [])),
    params(UserIdInPath),
    responses(
        (status = 200, body = UserState, description = "The state of the user", example = json!({"userId": "alice", "online": true, "lastSeenAt": "2026-11-24T08:00:00.123Z", "away": false, "status": null, "connections": [{"connectionId": "phone-1", "expiresAt": "2026-11-24T08:01:00.123Z", "lastPingAt": "2026-11-24T08:00:00.123Z", "ttlMs": 60000, "away": false, "leavesAt": null}]})),
    )
)]
pub(super) async fn user(
    Seeing(user): Seeing,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    _: NoBody,
) -> Result<JsonLine<UserState>, Error> {
    let found = state.presence.user(&user).await?;
    let connections = found.connections.into_iter();
    let connections = connections.map(|each| UserConnection {
        connection_id: each.id,
        expires_at: each.expires_at,
        last_ping_at: each.pinged_at,
        ttl_ms: millis(each.ttl),
        away: each.away,
        leaves_at: each.leaves_at,
    });
    Ok(JsonLine(UserState {
        user_id: user,
        online: found.online,
        last_seen_at: found.last_seen_at,
        away: found.away,
        status: found.status.map(UserStatus::from),
        connections: connections.collect(),
    }))
}

fn connect_result(
    state: &AppState,
    user_id: UserId,
    call: Statement,
    result: &Connected,
) -> JsonLine<ConnectResult> {
    let config = &state.config.presence;
    let ttl = call.stated.ttl.unwrap_or(config.ttl);
    let mut groups = call.groups;
    if let Some(groups) = &mut groups {
        groups.retain(|group| !result.not_joined.contains(group));
    }
    let ping_interval = scaled_interval(ttl, (config.ttl, config.ping_interval));
    JsonLine(ConnectResult {
        user_id,
        connection_id: call.connection,
        online: true,
        became_online: result.became_online,
        expires_at: result.expires_at,
        ttl_ms: millis(ttl),
        ping_interval_ms: millis(ping_interval),
        away: call.away,
        groups,
    })
}
