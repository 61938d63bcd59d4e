//! Bulk calls: look up users, list all online users, count them.

pub(super) mod cursor;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use self::cursor::encode;
use super::error::Error;
use super::extract::{JsonBody, Listed, NoBody, user_ids};
use super::json_line::JsonLine;
use super::openapi::UserIdText;
use super::openapi::responses::UnsupportedMediaType;
use super::page_query::PageQuery;
use super::permissions::SeeingEveryone;
use super::query::NoQuery;
use super::state::AppState;
use crate::auth::Caller;
use crate::model::{State as UserState, StateFields, UserId};

/// The users to look up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LookupBody {
    /// 1 to 1,000 user ids. `PRESENCE_LOOKUP_LIMIT` changes the limit.
    #[schema(value_type = Vec<UserIdText>, min_items = 1, max_items = 1000, example = json!(["alice", "bob", "carol"]))]
    user_ids: Vec<Listed<UserId>>,
    /// Whether the response has the states of the online users. Default: false.
    #[schema(example = false)]
    states: Option<bool>,
}

/// The online users of a lookup.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OnlineUsers {
    /// The online users, in the order of the request, without duplicates.
    #[schema(value_type = Vec<String>, example = json!(["alice"]))]
    online: Vec<UserId>,
    /// The states of the listed users that are away or have a status. Only present if the request asks for states.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<BTreeMap<String, StateFields>>, example = json!({"alice": {"away": true, "status": "dnd"}}))]
    states: Option<BTreeMap<UserId, OwnedState>>,
}

/// The state of a user in a response.
#[derive(Debug)]
pub(super) struct OwnedState(Arc<UserState>);

impl Serialize for OwnedState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StateFields::of(Some(&self.0)).serialize(serializer)
    }
}

/// A page of the online users.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OnlinePage {
    /// At most `limit` users. A page may be shorter although more pages follow.
    #[schema(value_type = Vec<String>, example = json!(["alice", "bob"]))]
    online: Vec<UserId>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required, example = "PmlZhfudYWZ0ZXIKYm9i")]
    next_cursor: Option<String>,
}

/// The number of online users.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OnlineCount {
    /// The number of online users.
    #[schema(example = 2)]
    count: u64,
}

/// Look up many users
///
/// Returns which of the users are online, and on request their states. The call is one round trip to the store, or two
/// with states.
#[utoipa::path(
    post, path = "/v1/online", tag = "online", operation_id = "lookUpOnline",
    security(("bearer" = [])),
    request_body = LookupBody,
    responses(
        (status = 200, body = OnlineUsers, description = "The online users", example = json!({"online": ["alice"]})),
        UnsupportedMediaType,
    )
)]
pub(super) async fn lookup(
    caller: Caller,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    JsonBody(body): JsonBody<LookupBody>,
) -> Result<JsonLine<OnlineUsers>, Error> {
    let users = user_ids(body.user_ids, state.config.limits.lookup_limit)?;
    caller.authorize_read_each(&users)?;
    let online = state.presence.online_among(users).await?;
    let states = if body.states.unwrap_or_default() {
        Some(states(&state, &online).await?)
    } else {
        None
    };
    Ok(JsonLine(OnlineUsers { online, states }))
}

/// List all online users
///
/// Returns the online users page by page. A user who stays online while a client reads the pages is on exactly one
/// page. A user who comes online or goes offline meanwhile may be missing or repeated.
#[utoipa::path(
    get, path = "/v1/online", tag = "online", operation_id = "listOnline",
    security(("bearer" = [])),
    params(PageQuery),
    responses(
        (status = 200, body = OnlinePage, description = "A page of the online users", example = json!({"online": ["alice", "bob"], "nextCursor": "PmlZhfudYWZ0ZXIKYm9i"})),
    )
)]
pub(super) async fn list(
    _: SeeingEveryone,
    State(state): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
    _: NoBody,
) -> Result<JsonLine<OnlinePage>, Error> {
    let query = PageQuery::read(query.as_deref().unwrap_or(""))?;
    let partitions = state.presence.partitions();
    let (limit, cursor) = (query.limit()?, query.cursor(partitions)?);
    let page = state.presence.online_page(&cursor, limit).await?;
    Ok(JsonLine(OnlinePage {
        online: page.users,
        next_cursor: page.next.map(|cursor| encode(&cursor, partitions)),
    }))
}

/// Count the online users
///
/// Returns the number of users who are online at the time of the call.
#[utoipa::path(
    get, path = "/v1/online/count", tag = "online", operation_id = "countOnline",
    security(("bearer" = [])),
    responses(
        (status = 200, body = OnlineCount, description = "The number of online users", example = json!({"count": 2})),
    )
)]
pub(super) async fn count(
    _: SeeingEveryone,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    _: NoBody,
) -> Result<JsonLine<OnlineCount>, Error> {
    let count = state.presence.count().await?;
    Ok(JsonLine(OnlineCount { count }))
}

/// The states of these online users, where something is set.
pub(super) async fn states(
    state: &AppState,
    online: &[UserId],
) -> Result<BTreeMap<UserId, OwnedState>, Error> {
    let states = state.presence.states_among(online).await?.into_iter();
    Ok(states
        .map(|(user, state)| (user, OwnedState(state)))
        .collect())
}
