//! `GET` and `POST /v1/events`: opens event streams.

mod wanted;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::openapi::schema::{AnyOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use self::wanted::wanted;
use super::error::Error;
use super::extract::{JsonBody, ListedGroup, ListedUser, NoBody, listed_groups, listed_users};
use super::openapi::responses::{
    BadRequest, BodyTimeout, BodyTooLarge, Forbidden, HeadTooLarge, NoStreams, StoreUnreachable,
    TooMany, Unauthorized, UnsupportedMediaType,
};
use super::openapi::{GroupIdText, ListedGroupId, ListedUserId, UserIdText};
use super::permissions::StreamCaller;
use super::query::{decoded, keep_once, parameters, unknown};
use super::response_headers::STREAM_HEADERS;
use super::state::AppState;
use super::stream_handoff::StreamHandoff;
use super::stream_support::StreamSupport;
use crate::auth::Caller;
use crate::events::{
    GroupJoined, GroupLeft, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot,
    StreamRequest, UserOffline, UserOnline, UserUpdated,
};

/// Query parameters of `GET`. With `POST`, the body contains the others.
const QUERY: [&str; 5] = [
    "userIds",
    "groupIds",
    "snapshot",
    "lastEventId",
    "access_token",
];
const QUERY_BESIDE_A_BODY: [&str; 2] = ["lastEventId", "access_token"];

/// The query of a stream.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "utoipa reads the fields; the handler parses the query by hand"
)]
pub(super) struct StreamQuery {
    /// Users whose events the stream carries, separated by commas; may repeat. All users if
    /// omitted. Only `POST` accepts an id that contains a comma. The head of a request is at most
    /// 16 KiB, so more than about 400 UUIDs need `POST`.
    #[param(rename = "userIds", value_type = Option<Vec<ListedUserId>>, min_items = 1, style = Form, explode = false, example = json!(["alice", "bob"]))]
    user_ids: Option<Vec<String>>,
    /// Groups whose members' events the stream carries, alone or together with `userIds`: 1 to 100 ids, separated by
    /// commas; may repeat. Only `POST` accepts an id that contains a comma.
    #[param(rename = "groupIds", value_type = Option<Vec<ListedGroupId>>, min_items = 1, max_items = 100, style = Form, explode = false, example = json!(["team-7"]))]
    group_ids: Option<Vec<String>>,
    /// Whether the stream begins with the online users.
    #[param(example = true)]
    snapshot: Option<bool>,
    /// The `id` of the last message, to resume after it. The header `Last-Event-ID` has the same
    /// meaning and takes precedence; an `EventSource` sends it when it reconnects.
    #[param(rename = "lastEventId")]
    last_event_id: Option<String>,
}

/// The data of one message. The event name determines the schema.
#[derive(Debug)]
struct EventData;

impl PartialSchema for EventData {
    fn schema() -> RefOr<Schema> {
        let mut any = AnyOfBuilder::new().description(Some(
            "The data of one message. The event name determines the schema.",
        ));
        for payload in [
            UserOffline::name(),
            UserOnline::name(),
            UserUpdated::name(),
            GroupJoined::name(),
            GroupLeft::name(),
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

/// The users of a stream.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EventsBody {
    /// Users whose events the stream carries, 1 to 10,000 ids. All users if omitted.
    #[serde(default, deserialize_with = "listed_users")]
    #[schema(value_type = Vec<UserIdText>, required = false, min_items = 1, max_items = 10000, example = json!(["alice", "bob"]))]
    user_ids: Option<Vec<ListedUser>>,
    /// Groups whose members' events the stream carries, alone or together with `userIds`: 1 to 100 ids.
    #[serde(default, deserialize_with = "listed_groups")]
    #[schema(value_type = Vec<GroupIdText>, required = false, min_items = 1, max_items = 100, example = json!(["team-7"]))]
    group_ids: Option<Vec<ListedGroup>>,
    /// Whether the stream begins with the online users.
    #[serde(default)]
    #[schema(example = true)]
    snapshot: bool,
}

/// The parameters of a stream, before its ids are validated.
#[derive(Debug, Default)]
struct StreamParameters {
    user_ids: Option<Vec<ListedUser>>,
    group_ids: Option<Vec<ListedGroup>>,
    snapshot: bool,
    last_event_id: Option<String>,
}

/// Stream presence events
///
/// A response of Server-Sent Events that stays open. Read it in one of these ways:
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
/// An `EventSource` cannot send headers, so this path also accepts the token or key as the parameter `access_token`.
/// Example of a message:
///
/// ```text
/// id: 64a5c2f0b1c3d.19a4d0f1b2c.0
/// event: user.online
/// data: {"userId":"alice","timestamp":"2026-11-24T08:00:00.123Z"}
/// ```
///
/// | `event` | `data` | When |
/// | --- | --- | --- |
/// | `user.online` | `UserOnline` | The first connection of a user opened |
/// | `user.updated` | `UserUpdated` | The state of an online user changed: whether it is away, or its status. Always the whole state |
/// | `user.offline` | `UserOffline` | The last connection of a user closed or expired. Online and offline events of a user alternate |
/// | `group.joined` | `GroupJoined` | With `groupIds`: users became members of a group |
/// | `group.left` | `GroupLeft` | With `groupIds`: users are no members of a group any more |
/// | `presence.snapshot` | `PresenceSnapshot` | With `snapshot=true`: the online users, in one or more messages before all changes |
/// | `presence.ready` | `PresenceReady` | The stream has caught up: after the snapshot, after the missed events, or at once. Again with a newer `id` after a minute without messages |
/// | `presence.reset` | `PresenceReset` | The client cannot resume, a group changed since, or the store lost its data. The client must forget its state. With `snapshot=true`, a new snapshot follows |
/// | `presence.end` | `PresenceEnd` | The last message of a stream that the server ends, with the reason |
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
        NoStreams,
        TooMany,
        HeadTooLarge,
        StoreUnreachable,
    )
)]
pub(super) async fn stream(
    StreamCaller(caller): StreamCaller,
    State(state): State<Arc<AppState>>,
    handoff: Option<Extension<StreamHandoff>>,
    support: Option<Extension<StreamSupport>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    _: NoBody,
) -> Result<Response, Error> {
    let params = parse_query(query.as_deref(), &headers, &QUERY)?;
    open(&state, &caller, handoff, support, params).await
}

/// Stream presence events of many users
///
/// The same stream as `GET /v1/events`, for lists that are too long for a query:
///
/// ```sh
/// curl -N -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
///   -d '{"userIds":["alice","bob"],"snapshot":true}' http://localhost:8080/v1/events
/// ```
#[utoipa::path(
    post, path = "/v1/events", tag = "events", operation_id = "streamEventsOf",
    security(("bearer" = []), ("eventsQuery" = [])),
    params(
        ("lastEventId" = Option<String>, Query, description = "The `id` of the last message, to resume after it. The header `Last-Event-ID` has the same meaning and takes precedence."),
    ),
    request_body = EventsBody,
    responses(
        (status = 200, content_type = "text/event-stream", body = EventData, description = "The stream, until either side ends it", example = json!({"userId": "alice", "timestamp": "2026-11-24T08:00:00.123Z"})),
        BadRequest,
        Unauthorized,
        Forbidden,
        NoStreams,
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
    handoff: Option<Extension<StreamHandoff>>,
    support: Option<Extension<StreamSupport>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    JsonBody(body): JsonBody<EventsBody>,
) -> Result<Response, Error> {
    let query = parse_query(query.as_deref(), &headers, &QUERY_BESIDE_A_BODY)?;
    let params = StreamParameters {
        user_ids: body.user_ids,
        group_ids: body.group_ids,
        snapshot: body.snapshot,
        last_event_id: query.last_event_id,
    };
    open(&state, &caller, handoff, support, params).await
}

async fn open(
    state: &AppState,
    caller: &Caller,
    handoff: Option<Extension<StreamHandoff>>,
    support: Option<Extension<StreamSupport>>,
    params: StreamParameters,
) -> Result<Response, Error> {
    let wanted = wanted(state, caller, params.user_ids, params.group_ids).await?;
    let ends_by = match support {
        Some(Extension(StreamSupport::None)) => return Err(Error::StreamsUnsupported),
        Some(Extension(StreamSupport::Until(time))) => Some(time),
        None => None,
    };
    if let Some(Extension(handoff)) = &handoff {
        handoff.request();
    }
    let admitted_since = handoff.as_ref().and_then(|handoff| handoff.admitted());
    let requested_at = admitted_since.unwrap_or_else(Instant::now);
    if admitted_since.is_none() {
        state.admission.admitted().await;
    }
    let _permit = state.admission.opening_permit().await;
    let opened = state.streams.open(StreamRequest {
        requested_at,
        wanted,
        snapshot: params.snapshot,
        last_event_id: params.last_event_id,
        caller: caller.name(),
        closes_by: caller.expires(),
        ends_by,
        credential: caller.credential(),
    });
    // Boxed, because thousands of requests may wait for admission and should take little memory.
    let stream = Box::pin(opened).await?;
    let end = Extension(stream.closed());
    let body = match handoff {
        Some(Extension(handoff)) => {
            handoff.put_stream(stream);
            Body::empty()
        }
        None => Body::new(stream),
    };
    Ok((STREAM_HEADERS, end, body).into_response())
}

/// Parses a query with the parameters `known`. The credential was read before.
fn parse_query(
    query: Option<&str>,
    headers: &HeaderMap,
    known: &'static [&'static str],
) -> Result<StreamParameters, Error> {
    let mut params = StreamParameters::default();
    let mut snapshot = None;
    for (name, value) in parameters(query.unwrap_or("")) {
        if !known.contains(&&*name) {
            return Err(unknown(&name, known));
        }
        match &*name {
            "userIds" => {
                let value = decoded("userIds", value)?;
                let ids = value.split(',').map(ListedUser::from);
                params.user_ids.get_or_insert_default().extend(ids);
            }
            "groupIds" => {
                let value = decoded("groupIds", value)?;
                let ids = value.split(',').map(ListedGroup::from);
                params.group_ids.get_or_insert_default().extend(ids);
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
                keep_once(&mut params.last_event_id, "lastEventId", value)?;
            }
            _ => {}
        }
    }
    params.snapshot = snapshot.unwrap_or(false);
    if let Some(header) = headers.get("last-event-id") {
        params.last_event_id = Some(String::from_utf8_lossy(header.as_bytes()).into_owned());
    }
    // An `EventSource` without an id has nothing to resume from.
    params.last_event_id = params.last_event_id.filter(|id| !id.is_empty());
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::shown_name;
    use axum::http::HeaderValue;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn encode(text: &str) -> String {
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
    }

    proptest! {
        #[test]
        fn a_query_is_parsed_into_its_parameters(
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
            let params = parse_query(Some(&pairs.join("&")), &headers, &QUERY).expect("a good query");
            prop_assert_eq!(&params.group_ids, &None);
            let everyone = lists.is_empty();
            let listed = lists.concat().iter().map(|id| ListedUser::from(&**id)).collect();
            prop_assert_eq!(params.user_ids, (!everyone).then_some(listed));
            prop_assert_eq!(params.snapshot, snapshot.unwrap_or(false));
            prop_assert_eq!(params.last_event_id, header.or(cursor).filter(|cursor| !cursor.is_empty()));
        }

        /// A query is refused only for an unknown name, an invalid boolean, invalid UTF-8, or a
        /// repeated parameter that must not repeat.
        #[test]
        fn any_query_is_parsed_or_its_error_names_the_field(
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
            match parse_query(Some(&query), &HeaderMap::new(), &QUERY) {
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
    fn encoded_commas_separate_ids_too() {
        for query in [
            "userIds=a,b&userIds=c",
            "userIds=a%2Cb,c",
            "userIds=a&userIds=b%2Cc",
        ] {
            let params = parse_query(Some(query), &HeaderMap::new(), &QUERY).expect("a good query");
            let expected = ["a", "b", "c"].map(ListedUser::from);
            assert_eq!(params.user_ids.as_deref(), Some(&expected[..]));
        }
    }

    #[test]
    fn the_header_takes_precedence_over_the_query() {
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", HeaderValue::from_static("from-header"));
        let params =
            parse_query(Some("lastEventId=from-query"), &headers, &QUERY).expect("a good query");
        assert_eq!(params.last_event_id.as_deref(), Some("from-header"));
    }
}
