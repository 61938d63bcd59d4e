//! The event stream, asked for by query or by body.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::openapi::schema::{AnyOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::error::{
    BadRequest, BodyTimeout, BodyTooLarge, Error, Forbidden, HeadTooLarge, StoreUnreachable,
    TooMany, Unauthorized, UnsupportedMediaType,
};
use super::extract::{JsonBody, ListedUser, NoBody, listed_users, user_ids};
use super::openapi::{ListedUserId, UserIdText};
use super::permissions::StreamCaller;
use super::query::{decoded, keep_once, parameters, unknown};
use super::state::AppState;
use crate::auth::Caller;
use crate::events::{
    Interest, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot, StreamRequest,
    UserOffline, UserOnline,
};
use crate::net::Seat;

/// How many users a stream can be about, short of everyone.
const MAX_USERS: usize = 10_000;

/// What the query of a stream may name, and what is left of that where a body says whom the stream is about.
const QUERY: [&str; 4] = ["userIds", "snapshot", "lastEventId", "access_token"];
const QUERY_BESIDE_A_BODY: [&str; 2] = ["lastEventId", "access_token"];

/// nginx passes a response on at once where this header says no.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The headers of every stream. A proxy that compresses would hold every event back.
pub(super) const STREAM_HEADERS: [(HeaderName, HeaderValue); 3] = [
    (
        CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    ),
    (
        CACHE_CONTROL,
        HeaderValue::from_static("no-store, no-transform"),
    ),
    (ACCEL_BUFFERING, HeaderValue::from_static("no")),
];

/// The query of a stream.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(super) struct StreamQuery {
    /// Whose events, separated by commas; may repeat. Everyone's when left out. An id that itself
    /// has a comma can only be asked for by `POST`.
    /// The head of a request is at most 16 KiB, so more than some 400 UUIDs need `POST`.
    #[param(rename = "userIds", value_type = Option<Vec<ListedUserId>>, min_items = 1, style = Form, explode = false, example = json!(["alice", "bob"]))]
    user_ids: Option<Vec<String>>,
    /// Whether to begin with who is online now.
    #[param(example = true)]
    snapshot: Option<bool>,
    /// The `id` of the last message, to resume after it. The header `Last-Event-ID` says the same and wins; an
    /// `EventSource` that reconnects sends it by itself.
    #[param(rename = "lastEventId")]
    last_event_id: Option<String>,
}

/// The data of one message of a stream. The name of its event says which of these it is.
#[derive(Debug)]
struct EventData;

impl PartialSchema for EventData {
    fn schema() -> RefOr<Schema> {
        let mut any = AnyOfBuilder::new().description(Some(
            "The data of one message of a stream; the name of its event says which of these it is.",
        ));
        for payload in [
            UserOffline::name(),
            UserOnline::name(),
            PresenceSnapshot::name(),
            PresenceReset::name(),
            PresenceEnd::name(),
            PresenceReady::name(),
        ] {
            any = any.item(Ref::from_schema_name(payload));
        }
        any.into()
    }
}

impl ToSchema for EventData {}

/// Whom a stream is about.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EventsBody {
    /// Whose events, 1 to 10,000 ids. Everyone's when left out.
    #[serde(default, deserialize_with = "listed_users")]
    #[schema(value_type = Vec<UserIdText>, required = false, min_items = 1, max_items = 10000, example = json!(["alice", "bob"]))]
    user_ids: Option<Vec<ListedUser>>,
    /// Whether to begin with who is online now.
    #[serde(default)]
    #[schema(example = true)]
    snapshot: bool,
}

/// What the query of a stream says, before its ids are checked.
#[derive(Debug, Default)]
struct Asked {
    user_ids: Option<Vec<ListedUser>>,
    snapshot: bool,
    last_event_id: Option<String>,
}

/// Watch who comes and goes
///
/// A stream of server-sent events. It does not end by itself, so watch it in one of these ways:
///
/// ```sh
/// curl -N -H "Authorization: Bearer $KEY" 'http://localhost:8080/v1/events?snapshot=true'
/// ```
///
/// ```js
/// const stream = new EventSource(`/v1/events?snapshot=true&access_token=${token}`);
/// stream.addEventListener('user.online', (event) => console.log(JSON.parse(event.data)));
/// ```
///
/// A browser's `EventSource` cannot send a header: here alone, the token or key may come as `access_token`.
/// On the wire, a message is:
///
/// ```text
/// id: 64a5c2f0b1c3d.19a4d0f1b2c.0
/// event: user.online
/// data: {"userId":"alice","timestamp":"2026-11-24T08:00:00.123Z"}
/// ```
///
/// | `event` | `data` | When |
/// | --- | --- | --- |
/// | `user.online` | `UserOnline` | A user's first connection opened |
/// | `user.offline` | `UserOffline` | A user's last connection closed or expired. Per user, the two strictly alternate |
/// | `presence.snapshot` | `PresenceSnapshot` | Once or several times before every change, where `snapshot` was asked for |
/// | `presence.ready` | `PresenceReady` | The stream has caught up: after the snapshot, after the missed events, or at once; and again where only the cursor moved on for a minute |
/// | `presence.reset` | `PresenceReset` | The cursor could not be resumed from, or the store lost its data. Forget what was said before; a new snapshot follows where one was asked for |
/// | `presence.end` | `PresenceEnd` | The last message of a stream that the server ends, and why |
///
/// Every block has data, and no line is longer than 60 KiB. Every `id` is an opaque cursor: a client that reconnects
/// with it, to any instance, receives every event that it missed, once and in order. The stream ends after some time,
/// half an hour by default, whenever its reader does not keep up, and when the token that opened it expires: reconnect
/// with the last `id`, and with a fresh token. A request with `Accept: text/event-stream` that meets a temporary cause
/// gets status 200 and `presence.end` instead of 429 or 503, since an `EventSource` gives up on any other status.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "streamEvents",
    security(("bearer" = []), ("eventsQuery" = [])),
    params(
        StreamQuery,
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = EventData, description = "The stream, until either side ends it", example = json!({"userId": "alice", "timestamp": "2026-11-24T08:00:00.123Z"})),
        BadRequest,
        Unauthorized,
        Forbidden,
        TooMany,
        HeadTooLarge,
        StoreUnreachable,
    )
)]
pub(super) async fn stream(
    StreamCaller(caller): StreamCaller,
    State(state): State<Arc<AppState>>,
    seat: Option<Extension<Seat>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    _: NoBody,
) -> Result<Response, Error> {
    let asked = asked(query.as_deref(), &headers, &QUERY)?;
    open(&state, &caller, seat, asked).await
}

/// Watch many chosen users
///
/// The same stream as `GET /v1/events`, for lists too long for a query. It does not end by itself; watch it with:
///
/// ```sh
/// curl -N -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
///   -d '{"userIds":["alice","bob"],"snapshot":true}' http://localhost:8080/v1/events
/// ```
#[utoipa::path(
    post, path = "/v1/events", tag = "events", operation_id = "streamEventsOf",
    security(("bearer" = []), ("eventsQuery" = [])),
    params(
        ("lastEventId" = Option<String>, Query, description = "The `id` of the last message, to resume after it. The header `Last-Event-ID` says the same and wins."),
    ),
    request_body = EventsBody,
    responses(
        (status = 200, content_type = "text/event-stream", body = EventData, description = "The stream, until either side ends it", example = json!({"userId": "alice", "timestamp": "2026-11-24T08:00:00.123Z"})),
        BadRequest,
        Unauthorized,
        Forbidden,
        BodyTimeout,
        BodyTooLarge,
        UnsupportedMediaType,
        TooMany,
        StoreUnreachable,
    )
)]
pub(super) async fn stream_of(
    StreamCaller(caller): StreamCaller,
    State(state): State<Arc<AppState>>,
    seat: Option<Extension<Seat>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Error> {
    let body: EventsBody = body.parse()?;
    let query = asked(query.as_deref(), &headers, &QUERY_BESIDE_A_BODY)?;
    let asked = Asked {
        user_ids: body.user_ids,
        snapshot: body.snapshot,
        last_event_id: query.last_event_id,
    };
    open(&state, &caller, seat, asked).await
}

async fn open(
    state: &AppState,
    caller: &Caller,
    seat: Option<Extension<Seat>>,
    asked: Asked,
) -> Result<Response, Error> {
    let interest = match asked.user_ids {
        None => {
            caller.authorize_read_all()?;
            Interest::AllUsers
        }
        Some(listed) => {
            let users = user_ids(listed, MAX_USERS)?;
            caller.authorize_read_each(&users)?;
            Interest::users(users)
        }
    };
    if let Some(Extension(seat)) = &seat {
        seat.leave_hyper();
    }
    let asked_before = seat.as_ref().and_then(|seat| seat.admitted());
    let asked_at = asked_before.unwrap_or_else(Instant::now);
    if asked_before.is_none() {
        state.admission.admitted().await;
    }
    let _turn = state.admission.turn().await;
    let opened = state.streams.open(StreamRequest {
        requested_at: asked_at,
        interest,
        snapshot: asked.snapshot,
        last_event_id: asked.last_event_id,
        caller: caller.name(),
        closes_by: caller.expires(),
        credential: caller.credential(),
    });
    // Thousands may wait for their turn, and need no room yet for what comes after.
    let stream = Box::pin(opened).await?;
    let end = Extension(stream.closed());
    let body = match seat {
        Some(Extension(seat)) => {
            seat.take(stream);
            Body::empty()
        }
        None => Body::new(stream),
    };
    Ok((STREAM_HEADERS, end, body).into_response())
}

/// Reads a query that may have the parameters `known`. The credential among them was read before.
fn asked(
    query: Option<&str>,
    headers: &HeaderMap,
    known: &'static [&'static str],
) -> Result<Asked, Error> {
    let mut asked = Asked::default();
    let mut snapshot = None;
    for (name, value) in parameters(query.unwrap_or("")) {
        if !known.contains(&&*name) {
            return Err(unknown(&name, known));
        }
        match &*name {
            "userIds" => {
                let value = decoded("userIds", value)?;
                let ids = value.split(',').map(ListedUser::from);
                asked.user_ids.get_or_insert_default().extend(ids);
            }
            "snapshot" => {
                let value = value.parse().map_err(|_| Error::Query {
                    field: "snapshot",
                    why: "true or false",
                })?;
                keep_once(&mut snapshot, "snapshot", value)?;
            }
            "lastEventId" => {
                let value = decoded("lastEventId", value)?;
                keep_once(&mut asked.last_event_id, "lastEventId", value)?;
            }
            _ => {}
        }
    }
    asked.snapshot = snapshot.unwrap_or(false);
    if let Some(header) = headers.get("last-event-id") {
        asked.last_event_id = Some(String::from_utf8_lossy(header.as_bytes()).into_owned());
    }
    // An EventSource that has heard no id yet has nothing to resume from.
    asked.last_event_id = asked.last_event_id.filter(|id| !id.is_empty());
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::shown_name;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn encode(text: &str) -> String {
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
    }

    proptest! {
        #[test]
        fn a_query_says_what_its_parts_say(
            lists in vec(vec("[^,]{0,6}", 1..4), 0..3),
            snapshot in proptest::option::of(any::<bool>()),
            cursor in proptest::option::of("\\PC{0,9}"),
            header in proptest::option::of("[ -~]{0,9}"),
            token in proptest::option::of("[a-z]{0,3}"),
        ) {
            let mut pairs: Vec<_> = lists.iter().map(|ids| format!("userIds={}", encode(&ids.join(",")))).collect();
            pairs.extend(snapshot.map(|snapshot| format!("snapshot={snapshot}")));
            pairs.extend(cursor.iter().map(|cursor| format!("lastEventId={}", encode(cursor))));
            pairs.extend(token.map(|token| format!("access_token={token}")));
            let mut headers = HeaderMap::new();
            if let Some(header) = &header {
                headers.insert("last-event-id", HeaderValue::from_str(header).expect("visible"));
            }
            let asked = asked(Some(&pairs.join("&")), &headers, &QUERY).expect("a good query");
            let everyone = lists.is_empty();
            let listed = lists.concat().iter().map(|id| ListedUser::from(&**id)).collect();
            prop_assert_eq!(asked.user_ids, (!everyone).then_some(listed));
            prop_assert_eq!(asked.snapshot, snapshot.unwrap_or(false));
            prop_assert_eq!(asked.last_event_id, header.or(cursor).filter(|cursor| !cursor.is_empty()));
        }

        /// An unknown name, a word for a truth that is none, bytes that are no text, and a second value where there
        /// can be one are the only things to refuse here.
        #[test]
        fn any_query_is_read_or_names_the_field(
            query in "\\PC{0,20}|((userIds|lastEventId|snapshot|x)(=(true|false|a,b|%[c-f][0-9]|%2[0-9]|%|,|=){0,2})?&?){0,4}",
        ) {
            let values = |name: &str| {
                let found = parameters(&query).filter(|pair| pair.0 == name);
                found.map(|pair| pair.1).collect::<Vec<_>>()
            };
            let texts = [values("userIds"), values("lastEventId")].concat();
            let good = texts.iter().all(|value| percent_encoding::percent_decode_str(value).decode_utf8().is_ok())
                && values("snapshot").iter().all(|value| ["true", "false"].contains(value))
                && values("snapshot").len().max(values("lastEventId").len()) < 2
                && parameters(&query).all(|(name, _)| QUERY.contains(&&*name));
            match asked(Some(&query), &HeaderMap::new(), &QUERY) {
                Ok(_) => prop_assert!(good),
                Err(Error::Query { field, .. }) => prop_assert!(!good && query.contains(field)),
                Err(Error::UnknownParameter { name, .. }) => {
                    prop_assert!(!good && parameters(&query).any(|pair| shown_name(&pair.0) == name));
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn ids_are_separated_by_commas_however_they_are_encoded() {
        for query in [
            "userIds=a,b&userIds=c",
            "userIds=a%2Cb,c",
            "userIds=a&userIds=b%2Cc",
        ] {
            let asked = asked(Some(query), &HeaderMap::new(), &QUERY).expect("a good query");
            let expected = ["a", "b", "c"].map(ListedUser::from);
            assert_eq!(asked.user_ids.as_deref(), Some(&expected[..]));
        }
    }

    #[test]
    fn the_header_wins_over_the_query() {
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", HeaderValue::from_static("from-header"));
        let asked = asked(Some("lastEventId=from-query"), &headers, &QUERY).expect("a good query");
        assert_eq!(asked.last_event_id.as_deref(), Some("from-header"));
    }
}
