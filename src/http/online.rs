//! Many users: the batch lookup, everyone page by page, the count.

mod cursor;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use self::cursor::{decode, encode};
use super::error::Error;
use super::extract::{JsonBody, ListedUser, NoBody, user_ids};
use super::json_line::JsonLine;
use super::openapi::UserIdText;
use super::openapi::responses::{
    BadRequest, BodyTimeout, BodyTooLarge, Forbidden, StoreUnreachable, TooMany, Unauthorized,
    UnsupportedMediaType,
};
use super::permissions::SeeingEveryone;
use super::query::{NoQuery, decoded, keep_once, parameters, unknown};
use super::state::AppState;
use crate::auth::Caller;
use crate::model::PageCursor;
use crate::model::UserId;

/// How many users a page names when nothing is asked.
const DEFAULT_LIMIT: usize = 100;

/// How many users a page names at most.
const MAX_LIMIT: usize = 1_000;

/// Whom a batch lookup is about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LookupBody {
    /// 1 to 1,000 user ids, or what `PRESENCE_LOOKUP_LIMIT` says.
    #[schema(value_type = Vec<UserIdText>, min_items = 1, max_items = 1000, example = json!(["alice", "bob", "carol"]))]
    user_ids: Vec<ListedUser>,
}

/// Those of the users asked about who are online.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OnlineUsers {
    /// In the order asked, without repeats.
    #[schema(value_type = Vec<String>, example = json!(["alice"]))]
    online: Vec<UserId>,
}

/// A page of everyone online.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OnlinePage {
    /// At most `limit` users, and maybe fewer although more pages follow.
    #[schema(value_type = Vec<String>, example = json!(["alice", "bob"]))]
    online: Vec<UserId>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required, example = "PmlZhfudYWZ0ZXIKYm9i")]
    next_cursor: Option<String>,
}

/// How many users are online.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OnlineCount {
    /// The number of users.
    #[schema(example = 2)]
    count: u64,
}

/// The query of a page.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// How many users at most, 1 to 1,000; 100 when left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, example = 100)]
    limit: Option<String>,
    /// The `nextCursor` of the page before; left out for the first.
    cursor: Option<String>,
}

impl PageQuery {
    fn read(query: &str) -> Result<Self, Error> {
        let mut read = Self::default();
        for (name, value) in parameters(query) {
            match &*name {
                "limit" => keep_once(&mut read.limit, "limit", decoded("limit", value)?)?,
                "cursor" => keep_once(&mut read.cursor, "cursor", decoded("cursor", value)?)?,
                other => return Err(unknown(other, &["limit", "cursor"])),
            }
        }
        Ok(read)
    }
}

/// Look up many users at once
///
/// Says which of the users are online, in one round trip to the store.
#[utoipa::path(
    post, path = "/v1/online", tag = "online", operation_id = "lookUpOnline",
    security(("bearer" = [])),
    request_body = LookupBody,
    responses(
        (status = 200, body = OnlineUsers, description = "Those online", example = json!({"online": ["alice"]})),
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
pub(super) async fn among(
    caller: Caller,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    body: JsonBody,
) -> Result<JsonLine<OnlineUsers>, Error> {
    let LookupBody { user_ids: listed } = body.parse()?;
    let users = user_ids(listed, state.config.limits.lookup_limit)?;
    caller.authorize_read_each(&users)?;
    let online = state.presence.online_among(users).await?;
    Ok(JsonLine(OnlineUsers { online }))
}

/// List everyone online
///
/// Page by page. Who stays online while the pages are read is on exactly one of them; who comes or
/// goes meanwhile may be missed or repeated.
#[utoipa::path(
    get, path = "/v1/online", tag = "online", operation_id = "listOnline",
    security(("bearer" = [])),
    params(PageQuery),
    responses(
        (status = 200, body = OnlinePage, description = "A page of those online", example = json!({"online": ["alice", "bob"], "nextCursor": "PmlZhfudYWZ0ZXIKYm9i"})),
        BadRequest,
        Unauthorized,
        Forbidden,
        TooMany,
        StoreUnreachable,
    )
)]
pub(super) async fn page(
    _: SeeingEveryone,
    State(state): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
    _: NoBody,
) -> Result<JsonLine<OnlinePage>, Error> {
    let query = PageQuery::read(query.as_deref().unwrap_or(""))?;
    let limit = match query.limit.as_deref() {
        None => DEFAULT_LIMIT,
        Some(text) => limit(text).ok_or(Error::Limit(MAX_LIMIT))?,
    };
    let cursor = match query.cursor.as_deref() {
        None => PageCursor::START,
        Some(text) => decode(text).ok_or(Error::Cursor)?,
    };
    let page = state.presence.online_page(&cursor, limit).await?;
    Ok(JsonLine(OnlinePage {
        online: page.online,
        next_cursor: page.next.map(|cursor| encode(&cursor)),
    }))
}

/// Count everyone online
///
/// The number of users who have at least one connection, from the index of those online.
#[utoipa::path(
    get, path = "/v1/online/count", tag = "online", operation_id = "countOnline",
    security(("bearer" = [])),
    responses(
        (status = 200, body = OnlineCount, description = "How many are online", example = json!({"count": 2})),
        BadRequest,
        Unauthorized,
        Forbidden,
        TooMany,
        StoreUnreachable,
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

fn limit(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = digits.then(|| text.parse().ok()).flatten();
    limit.filter(|limit| (1..=MAX_LIMIT).contains(limit))
}
