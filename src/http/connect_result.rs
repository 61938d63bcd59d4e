//! The answer to connect and ping.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{json_line, response_headers};
use crate::model::{ConnectionId, Timestamp, UserId};

/// A connection that is open.
#[derive(Debug, ToSchema)]
#[cfg_attr(test, derive(Serialize))]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectResult {
    /// Whose connection.
    #[schema(value_type = String, example = "alice")]
    pub(super) user_id: UserId,
    /// Which connection; `"1"` is the unnamed one.
    #[schema(value_type = String, example = "phone-1")]
    pub(super) connection_id: ConnectionId,
    /// Always true: this connection is open now.
    pub(super) online: bool,
    /// Whether this very call brought the user online; exactly then one `user.online` is published.
    pub(super) became_online: bool,
    /// When the connection expires unless it is pinged again.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:01:00.123Z")]
    pub(super) expires_at: Timestamp,
    /// How long a connection lives after its last ping, in milliseconds.
    #[schema(minimum = 1, example = 60000)]
    pub(super) ttl_ms: u64,
    /// How often to ping, in milliseconds.
    #[schema(minimum = 1, example = 25000)]
    pub(super) ping_interval_ms: u64,
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
                connection_id: named.map_or_else(ConnectionId::unnamed, |id| ConnectionId::new(&id).expect("they are allowed")),
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
