//! `GET` and `POST /v1/events`: opens event streams, and answers with lists of events.

mod parameters;

mod wanted;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::openapi::schema::{AnyOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use self::parameters::{QUERY, QUERY_BESIDE_A_BODY, StreamParameters, parse_query};
use self::wanted::wanted;
use super::error::Error;
use super::extract::{JsonBody, Listed, NoBody, WholeNumber, optional_list};
use super::json_line::JsonLine;
use super::openapi::responses::{NoStreams, UnsupportedMediaType};
use super::openapi::{GroupIdText, ListedGroupId, ListedUserId, UserIdText};
use super::permissions::StreamCaller;
use super::refused_stream::accepts_json;
use super::response_headers::STREAM_HEADERS;
use super::state::AppState;
use super::stream_handoff::StreamHandoff;
use super::stream_support::StreamSupport;
use crate::auth::Caller;
use crate::events::{
    EventList, GroupJoined, GroupLeft, PresenceEnd, PresenceReady, PresenceReset, PresenceSnapshot,
    StreamRequest, UserOffline, UserOnline, UserUpdated,
};
use crate::model::{GroupId, UserId};

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
    /// meaning and takes precedence; an `EventSource` sends it when it reconnects. `earliest` selects everything that
    /// is kept.
    #[param(rename = "lastEventId")]
    last_event_id: Option<String>,
    /// Only for a response of JSON: how many milliseconds the call waits for the first event.
    #[param(rename = "waitMs", minimum = 0, maximum = 25000, example = 0)]
    wait_ms: Option<u32>,
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
    #[serde(default, deserialize_with = "optional_list")]
    #[schema(value_type = Vec<UserIdText>, required = false, min_items = 1, max_items = 10000, example = json!(["alice", "bob"]))]
    user_ids: Option<Vec<Listed<UserId>>>,
    /// The groups to follow, 1 to 100 ids. The stream carries the events of their members, alone or together with
    /// `userIds`.
    #[serde(default, deserialize_with = "optional_list")]
    #[schema(value_type = Vec<GroupIdText>, required = false, min_items = 1, max_items = 100, example = json!(["team-7"]))]
    group_ids: Option<Vec<Listed<GroupId>>>,
    /// Whether the stream begins with the online users.
    #[serde(default)]
    #[schema(example = true)]
    snapshot: bool,
    /// Only for a response of JSON: how many milliseconds the call waits for the first event.
    #[serde(default)]
    #[schema(value_type = Option<u32>, required = false, minimum = 0, maximum = 25000, example = 0)]
    wait_ms: Option<WholeNumber>,
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
/// | `user.updated` | `UserUpdated` | The state of an online user changed: whether it is away, or its status. Always
/// the whole state |
/// | `user.offline` | `UserOffline` | The last connection of a user closed or expired. Online and offline events of a
/// user alternate |
/// | `group.joined` | `GroupJoined` | With `groupIds`: users became members of a group |
/// | `group.left` | `GroupLeft` | With `groupIds`: users are not members of a group any more |
/// | `presence.snapshot` | `PresenceSnapshot` | With `snapshot=true`: the online users, in one or more messages before
/// all changes |
/// | `presence.ready` | `PresenceReady` | The stream has caught up: after the snapshot, after the missed events, or at
/// once. Again with a newer `id` after a minute without messages |
/// | `presence.reset` | `PresenceReset` | The client cannot resume, a group changed since, or the store lost its data.
/// The client must forget its state. With `snapshot=true`, a new snapshot follows |
/// | `presence.end` | `PresenceEnd` | The last message of a stream that the server ends, with the reason |
///
/// Every block has data, and no line is longer than 60 KiB. Every `id` is an opaque cursor: a client that reconnects
/// with it, to any instance, receives every event that it missed, once and in order. The stream ends after some time,
/// half an hour by default, whenever its reader does not keep up, and when the token that opened it expires: reconnect
/// with the last `id`, and with a fresh token. A request with `Accept: text/event-stream` that meets a temporary cause
/// gets status 200 and `presence.end` instead of 429 or 503, since an `EventSource` gives up on any other status.
///
/// With `Accept: application/json`, the response is a list of the same messages instead of a stream, at most 1,000. It
/// covers everything that the store held when the call arrived, and its `cursor` is the `lastEventId` of the next call.
/// The call returns at once, or waits for the first event with `waitMs`. While it waits, it counts as a stream. A
/// snapshot needs `userIds` or `groupIds` in this form. The schema `EventList` of `POST /v1/events` describes the list;
/// generators make one kind of response of each operation, so this operation has that of the stream.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "streamEvents",
    security(("bearer" = []), ("eventsQuery" = [])),
    params(
        StreamQuery,
    ),
    responses(
        (status = 200, description = "The stream, until either side ends it", content_type = "text/event-stream", body = EventData, example = json!({"userId": "alice", "timestamp": "2026-11-24T08:00:00.123Z"})),
        NoStreams,
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
    answer(
        &state,
        &caller,
        Transport { handoff, support },
        params,
        &headers,
    )
    .await
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
        ("lastEventId" = Option<String>, Query, description = "The `id` of the last message, to resume after it. The header `Last-Event-ID` has the same meaning and takes precedence. `earliest` selects everything that is kept."),
    ),
    request_body = EventsBody,
    responses(
        (status = 200, description = "The stream, until either side ends it; or a list of its messages", content(
            (EventData = "text/event-stream", example = json!({"userId": "alice", "timestamp": "2026-11-24T08:00:00.123Z"})),
            (EventList = "application/json", example = json!({"events": [{"id": "64a5c2f0b1c3d.19a4d0f1b2c.0", "event": "user.online", "data": {"userId": "alice", "timestamp": "2026-11-24T08:00:00.123Z"}}], "cursor": "64a5c2f0b1c3d.19a4d0f1b2c.0", "more": false})),
        )),
        NoStreams,
        UnsupportedMediaType,
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
    let mut params = StreamParameters {
        user_ids: body.user_ids,
        group_ids: body.group_ids,
        snapshot: body.snapshot,
        is_in_body: true,
        ..query
    };
    params.set_wait(body.wait_ms)?;
    answer(
        &state,
        &caller,
        Transport { handoff, support },
        params,
        &headers,
    )
    .await
}

/// What the connection of a request can carry.
struct Transport {
    handoff: Option<Extension<StreamHandoff>>,
    support: Option<Extension<StreamSupport>>,
}

impl Transport {
    /// When the transport ends the response. `None`: never.
    fn ends_by(&self) -> Option<Instant> {
        match self.support {
            Some(Extension(StreamSupport::Until(time))) => Some(time),
            Some(Extension(StreamSupport::None)) | None => None,
        }
    }
}

/// Answers with a list if the client accepts JSON and no stream, otherwise with a stream.
async fn answer(
    state: &AppState,
    caller: &Caller,
    transport: Transport,
    params: StreamParameters,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    let wants_list = accepts_json(headers);
    let is_of_all = params.user_ids.is_none()
        && params.group_ids.is_none()
        && caller.with_own_groups().is_none();
    if wants_list && params.snapshot && is_of_all {
        let why = "a snapshot as JSON needs userIds or groupIds";
        return Err(params.invalid("snapshot", why));
    }
    let wait = params.wait.unwrap_or_default();
    let request = StreamRequest {
        requested_at: Instant::now(),
        wanted: wanted(state, caller, params.user_ids, params.group_ids).await?,
        snapshot: params.snapshot,
        last_event_id: params.last_event_id,
        counts: !wants_list || !wait.is_zero(),
        caller: caller.name(),
        closes_by: caller.expires(),
        ends_by: transport.ends_by(),
        credential: caller.credential(),
    };
    if wants_list {
        list(state, transport, request, wait).await
    } else {
        open(state, transport, request).await
    }
}

async fn open(
    state: &AppState,
    transport: Transport,
    mut request: StreamRequest,
) -> Result<Response, Error> {
    let Transport { handoff, support } = transport;
    if let Some(Extension(StreamSupport::None)) = support {
        return Err(Error::StreamsUnsupported);
    }
    if let Some(Extension(handoff)) = &handoff {
        handoff.request();
    }
    admit(state, handoff.as_deref(), &mut request).await;
    let _permit = state.admission.opening_permit().await;
    // Boxed, because thousands of requests may wait for admission and should take little memory.
    let stream = Box::pin(state.streams.open(request)).await?;
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

async fn list(
    state: &AppState,
    transport: Transport,
    mut request: StreamRequest,
    wait: Duration,
) -> Result<Response, Error> {
    admit(state, transport.handoff.as_deref(), &mut request).await;
    let list = Box::pin(state.streams.list(request, wait)).await?;
    Ok(JsonLine(list).into_response())
}

/// Waits for admission, unless the request has already waited. Then it has arrived earlier.
async fn admit(state: &AppState, handoff: Option<&StreamHandoff>, request: &mut StreamRequest) {
    match handoff.and_then(StreamHandoff::admitted) {
        Some(arrived) => request.requested_at = arrived,
        None => {
            request.requested_at = Instant::now();
            state.admission.admitted().await;
        }
    }
}
