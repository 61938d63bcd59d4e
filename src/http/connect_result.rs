//! The response to connect and ping.
//!
//! Every ping gets this response. Its JSON is written by hand, in less than a quarter of the instructions of serde.

use std::cell::RefCell;

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::json_line::json_response;
use super::response_headers::add_default_headers;
use crate::model::{ConnectionId, Timestamp, UserId};

/// An open connection.
#[derive(Debug, ToSchema)]
#[cfg_attr(test, derive(Serialize))]
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

/// The initial capacity of the buffer, in bytes. The response for a user id of the usual length fits.
const CAPACITY: usize = 256;

impl ConnectResult {
    /// One line of JSON, equal to the JSON of serde.
    fn json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(CAPACITY);
        json.extend_from_slice(b"{\"userId\":");
        append(&mut json, &self.user_id);
        json.extend_from_slice(b",\"connectionId\":");
        append(&mut json, &self.connection_id);
        json.extend_from_slice(b",\"online\":");
        append(&mut json, &self.online);
        json.extend_from_slice(b",\"becameOnline\":");
        append(&mut json, &self.became_online);
        json.extend_from_slice(b",\"expiresAt\":\"");
        append_timestamp(&mut json, self.expires_at);
        json.extend_from_slice(b"\",\"ttlMs\":");
        append(&mut json, &self.ttl_ms);
        json.extend_from_slice(b",\"pingIntervalMs\":");
        append(&mut json, &self.ping_interval_ms);
        json.extend_from_slice(b"}\n");
        json
    }
}

/// Appends a string, a number or a Boolean.
fn append(json: &mut Vec<u8>, value: &impl Serialize) {
    let written = serde_json::to_writer(json, value);
    written.expect("a string, a number or a Boolean, written to memory");
}

thread_local! {
    /// The last second that this thread wrote, and its text up to the milliseconds. The responses to all pings within a
    /// second contain the same text.
    static LAST_SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Appends the text of `time`.
fn append_timestamp(json: &mut Vec<u8>, time: Timestamp) {
    let millis = time.min(Timestamp::LAST_DISPLAYED).as_millis();
    let second = millis / 1_000;
    LAST_SECOND.with_borrow_mut(|(last, text)| {
        if *last != second {
            *last = second;
            *text = Timestamp::from_millis(second * 1_000).to_string();
            text.truncate(text.len() - "000Z".len());
        }
        json.extend_from_slice(text.as_bytes());
    });
    let digit = |unit: u64| b'0' + (millis / unit % 10) as u8;
    json.extend_from_slice(&[digit(100), digit(10), digit(1), b'Z']);
}

impl IntoResponse for ConnectResult {
    fn into_response(self) -> Response {
        let mut response = json_response(self.json());
        // The ping shortcut does not pass the place that adds these headers to other responses.
        add_default_headers(response.headers_mut());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timestamp_text(time: Timestamp) -> String {
        let mut text = Vec::new();
        append_timestamp(&mut text, time);
        String::from_utf8(text).expect("ASCII")
    }

    proptest! {
        #[test]
        fn a_timestamp_has_the_text_of_display(millis in prop_oneof![0..5_000_u64, any::<u64>()]) {
            // Each time is in another second than the one before, so that the cached text is replaced.
            for millis in [millis, millis.saturating_add(1_001), millis] {
                let time = Timestamp::from_millis(millis);
                prop_assert_eq!(timestamp_text(time), time.to_string());
            }
        }

        #[test]
        fn the_json_is_equal_to_that_of_serde(
            user in "\\PC{1,30}",
            named in proptest::option::of("[A-Za-z0-9._~:@-]{1,64}"),
            became_online: bool,
            millis in 0..4_000_000_000_000_u64,
            ttl_ms: u64,
            ping_interval_ms: u64,
        ) {
            let connected = ConnectResult {
                user_id: UserId::new(&user).expect("no control characters"),
                connection_id: named.map_or_else(ConnectionId::unnamed, |id| ConnectionId::new(&id).expect("a valid id")),
                online: true,
                became_online,
                expires_at: Timestamp::from_millis(millis),
                ttl_ms,
                ping_interval_ms,
            };
            let mut expected = serde_json::to_vec(&connected).expect("valid JSON");
            expected.push(b'\n');
            prop_assert_eq!(connected.json(), expected);
        }
    }
}
