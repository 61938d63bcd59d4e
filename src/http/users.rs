//! One user: connect, ping, disconnect, look.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{
    BadRequest, BodyTimeout, BodyTooLarge, ConnectRefused, Error, Forbidden, PingRefused,
    StoreUnreachable, TooMany, Unauthorized,
};
use super::extract::{NoBody, OptionalJson};
use super::json_line::{self, JsonLine};
use super::openapi::UserIdInPath;
use super::permissions::{ActingFor, Disconnecting, Seeing};
use super::query::NoQuery;
use super::response_headers;
use super::state::AppState;
use crate::model::{Closing, Touched};
use crate::model::{ConnectionId, Timestamp, UserId, millis};

/// Which connection a call is about. Without a body it is the user's one unnamed connection.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"connectionId": "phone-1"}))]
pub(super) struct ConnectBody {
    /// One device, tab or process: 1 to 64 of `A-Z a-z 0-9 . _ ~ : @ -`. `"1"` when left out.
    #[schema(pattern = "^[A-Za-z0-9._~:@-]{1,64}$", example = "phone-1")]
    connection_id: Option<String>,
}

/// Which connections to close. Without a body it is the user's one unnamed connection.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"connectionId": "phone-1"}))]
pub(super) struct DisconnectBody {
    /// One device, tab or process: 1 to 64 of `A-Z a-z 0-9 . _ ~ : @ -`. `"1"` when left out.
    #[schema(pattern = "^[A-Za-z0-9._~:@-]{1,64}$", example = "phone-1")]
    connection_id: Option<String>,
    /// True: close every connection of the user; `connectionId` is left out then.
    #[serde(default)]
    #[schema(example = false)]
    all: bool,
}

/// A connection that is open.
#[derive(Debug, ToSchema)]
#[cfg_attr(test, derive(Serialize))]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectResult {
    /// Whose connection.
    #[schema(value_type = String, example = "alice")]
    user_id: UserId,
    /// Which connection; `"1"` is the unnamed one.
    #[schema(value_type = String, example = "phone-1")]
    connection_id: ConnectionId,
    /// Always true: this connection is open now.
    online: bool,
    /// Whether this very call brought the user online; exactly then one `user.online` is published.
    became_online: bool,
    /// When the connection expires unless it is pinged again.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:01:00.123Z")]
    expires_at: Timestamp,
    /// How long a connection lives after its last ping, in milliseconds.
    #[schema(minimum = 1, example = 60000)]
    ttl_ms: u64,
    /// How often to ping, in milliseconds.
    #[schema(minimum = 1, example = 25000)]
    ping_interval_ms: u64,
}

/// Room for an answer about a user with an id of the usual length; a longer one makes it grow.
const RESULT_BYTES: usize = 256;

impl ConnectResult {
    /// One line, as serde would write it, in less than a quarter of the instructions: every ping is answered by this.
    fn json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(RESULT_BYTES);
        json.extend_from_slice(b"{\"userId\":");
        append(&mut json, &self.user_id);
        json.extend_from_slice(b",\"connectionId\":");
        append(&mut json, &self.connection_id);
        json.extend_from_slice(b",\"online\":");
        append(&mut json, &self.online);
        json.extend_from_slice(b",\"becameOnline\":");
        append(&mut json, &self.became_online);
        json.extend_from_slice(b",\"expiresAt\":\"");
        self.expires_at.append_to(&mut json);
        json.extend_from_slice(b"\",\"ttlMs\":");
        append(&mut json, &self.ttl_ms);
        json.extend_from_slice(b",\"pingIntervalMs\":");
        append(&mut json, &self.ping_interval_ms);
        json.extend_from_slice(b"}\n");
        json
    }
}

/// Appends a value that serde can always write, into memory, which takes it.
fn append(json: &mut Vec<u8>, value: &impl Serialize) {
    let written = serde_json::to_writer(json, value);
    written.expect("a text, a number or a truth value");
}

impl IntoResponse for ConnectResult {
    fn into_response(self) -> Response {
        let mut response = json_line::sent(self.json());
        response_headers::add_missing(response.headers_mut());
        response
    }
}

/// A connection, or all of them, that is closed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DisconnectResult {
    /// Whose connection.
    #[schema(value_type = String, example = "alice")]
    user_id: UserId,
    /// Which connection; null where all were closed.
    #[schema(required, value_type = Option<String>, example = "phone-1")]
    connection_id: Option<ConnectionId>,
    /// Whether another connection keeps the user online.
    online: bool,
    /// Whether this very call took the user offline; exactly then one `user.offline` is published.
    became_offline: bool,
}

/// One user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserState {
    /// Who.
    #[schema(value_type = String, example = "alice")]
    user_id: UserId,
    /// Whether at least one connection has not expired.
    online: bool,
    /// The last moment the user was known to be alive; null where that is unknown or forgotten.
    #[schema(required, value_type = Option<String>, format = DateTime, example = "2026-11-24T08:00:00.123Z")]
    last_seen_at: Option<Timestamp>,
    /// The connections that have not expired, in the order of their ids.
    connections: Vec<UserConnection>,
}

/// One connection of a user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserConnection {
    /// Which connection; `"1"` is the unnamed one.
    #[schema(value_type = String, example = "phone-1")]
    connection_id: ConnectionId,
    /// When it expires unless it is pinged again.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:01:00.123Z")]
    expires_at: Timestamp,
}

/// Open a connection
///
/// Opens or refreshes a connection of the user. The content type is not checked.
#[utoipa::path(
    post, path = "/v1/users/{userId}/connect", tag = "users", operation_id = "connect",
    security(("bearer" = [])),
    params(UserIdInPath),
    request_body(content = ConnectBody, description = "Left out for the user's one unnamed connection"),
    responses(
        (status = 200, body = ConnectResult, description = "The connection is open", example = json!({"userId": "alice", "connectionId": "phone-1", "online": true, "becameOnline": true, "expiresAt": "2026-11-24T08:01:00.123Z", "ttlMs": 60000, "pingIntervalMs": 25000})),
        BadRequest,
        Unauthorized,
        Forbidden,
        BodyTimeout,
        ConnectRefused,
        BodyTooLarge,
        TooMany,
        StoreUnreachable,
    )
)]
pub(super) async fn connect(
    ActingFor(user): ActingFor,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    OptionalJson(body): OptionalJson<ConnectBody>,
) -> Result<ConnectResult, Error> {
    let connection = connection_id(body.connection_id)?;
    let touched = state.presence.connect(&user, &connection).await?;
    Ok(connected(&state, user, connection, touched))
}

/// Keep a connection alive
///
/// To be called every `pingIntervalMs`. After an expiry it brings the user back online, with the
/// event. For 10 s after a disconnect it is refused: such a ping was sent before it. The content
/// type is not checked.
#[utoipa::path(
    post, path = "/v1/users/{userId}/ping", tag = "users", operation_id = "ping",
    security(("bearer" = [])),
    params(UserIdInPath),
    request_body(content = ConnectBody, description = "Left out for the user's one unnamed connection"),
    responses(
        (status = 200, body = ConnectResult, description = "The connection is open", example = json!({"userId": "alice", "connectionId": "phone-1", "online": true, "becameOnline": true, "expiresAt": "2026-11-24T08:01:00.123Z", "ttlMs": 60000, "pingIntervalMs": 25000})),
        BadRequest,
        Unauthorized,
        Forbidden,
        BodyTimeout,
        PingRefused,
        BodyTooLarge,
        TooMany,
        StoreUnreachable,
    )
)]
pub(super) async fn ping(
    ActingFor(user): ActingFor,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    OptionalJson(body): OptionalJson<ConnectBody>,
) -> Result<ConnectResult, Error> {
    let connection = connection_id(body.connection_id)?;
    let touched = state.presence.ping(&user, &connection).await?;
    Ok(connected(&state, user, connection, touched))
}

/// Close a connection
///
/// The user goes offline with the last one. A connection that is not open is closed already. The
/// content type is not checked, so `navigator.sendBeacon` can send this.
#[utoipa::path(
    post, path = "/v1/users/{userId}/disconnect", tag = "users", operation_id = "disconnect",
    security(("bearer" = [])),
    params(UserIdInPath),
    request_body(content = DisconnectBody, description = "Left out for the user's one unnamed connection"),
    responses(
        (status = 200, body = DisconnectResult, description = "The connection is closed", example = json!({"userId": "alice", "connectionId": "phone-1", "online": false, "becameOffline": true})),
        BadRequest,
        Unauthorized,
        Forbidden,
        BodyTimeout,
        BodyTooLarge,
        TooMany,
        StoreUnreachable,
    )
)]
pub(super) async fn disconnect(
    Disconnecting(user): Disconnecting,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    OptionalJson(body): OptionalJson<DisconnectBody>,
) -> Result<JsonLine<DisconnectResult>, Error> {
    let closing = match (body.all, body.connection_id) {
        (true, Some(_)) => return Err(Error::OneOrAll),
        (true, None) => Closing::All,
        (false, named) => Closing::One(connection_id(named)?),
    };
    let left = state.presence.disconnect(&user, &closing).await?;
    let connection_id = match closing {
        Closing::One(connection) => Some(connection),
        Closing::All => None,
    };
    Ok(JsonLine(DisconnectResult {
        user_id: user,
        connection_id,
        online: left.online,
        became_offline: left.became_offline,
    }))
}

/// Look at one user
///
/// An unknown user is offline, never 404. Exact to the millisecond.
#[utoipa::path(
    get, path = "/v1/users/{userId}", tag = "users", operation_id = "getUser",
    security(("bearer" = [])),
    params(UserIdInPath),
    responses(
        (status = 200, body = UserState, description = "The user, known or not", example = json!({"userId": "alice", "online": true, "lastSeenAt": "2026-11-24T08:00:00.123Z", "connections": [{"connectionId": "phone-1", "expiresAt": "2026-11-24T08:01:00.123Z"}]})),
        BadRequest,
        Unauthorized,
        Forbidden,
        TooMany,
        StoreUnreachable,
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
    let connections = connections.map(|(connection_id, expires_at)| UserConnection {
        connection_id,
        expires_at,
    });
    Ok(JsonLine(UserState {
        user_id: user,
        online: found.online,
        last_seen_at: found.last_seen_at,
        connections: connections.collect(),
    }))
}

fn connection_id(text: Option<String>) -> Result<ConnectionId, Error> {
    match text {
        Some(text) => Ok(ConnectionId::new(&text)?),
        None => Ok(ConnectionId::unnamed()),
    }
}

fn connected(
    state: &AppState,
    user_id: UserId,
    connection_id: ConnectionId,
    touched: Touched,
) -> ConnectResult {
    ConnectResult {
        user_id,
        connection_id,
        online: true,
        became_online: touched.became_online,
        expires_at: touched.expires_at,
        ttl_ms: millis(state.config.presence.ttl),
        ping_interval_ms: millis(state.config.presence.ping_interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_connection_is_written_as_serde_would(
            user in "\\PC{1,30}",
            named in proptest::option::of("[A-Za-z0-9._~:@-]{1,64}"),
            became_online: bool,
            millis in 0..4_000_000_000_000_u64,
            ttl_ms: u64,
            ping_interval_ms: u64,
        ) {
            let connected = ConnectResult {
                user_id: UserId::new(&user).expect("no control characters"),
                connection_id: connection_id(named).expect("they are allowed"),
                online: true,
                became_online,
                expires_at: Timestamp::from_millis(millis),
                ttl_ms,
                ping_interval_ms,
            };
            let mut expected = serde_json::to_vec(&connected).expect("it is JSON");
            expected.push(b'\n');
            prop_assert_eq!(connected.json(), expected);
        }
    }
}
