//! Many users: the batch lookup, everyone page by page, the count.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{
    BadRequest, BodyTimeout, BodyTooLarge, Error, Forbidden, StoreUnreachable, TooMany,
    Unauthorized, UnsupportedMediaType,
};
use super::extract::{JsonBody, ListedUser, NoBody, user_ids};
use super::json_line::JsonLine;
use super::openapi::UserIdText;
use super::permissions::SeeingEveryone;
use super::query::{NoQuery, decoded, keep_once, parameters, unknown};
use super::state::AppState;
use crate::auth::Caller;
use crate::model::PageCursor;
use crate::model::UserId;
use crate::presence::PresenceService;

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
) -> Result<Response, Error> {
    let limit = state.config.limits.lookup_limit;
    let answer = async move |presence: Arc<PresenceService>| {
        let LookupBody { user_ids: listed } = body.parse()?;
        let users = user_ids(listed, limit)?;
        caller.authorize_read_each(&users)?;
        let online = presence.online_among(users).await?;
        Ok(JsonLine(OnlineUsers { online }).into_response())
    };
    state.batch.run(answer).await
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
) -> Result<Response, Error> {
    let query = PageQuery::read(query.as_deref().unwrap_or(""))?;
    let limit = match query.limit.as_deref() {
        None => DEFAULT_LIMIT,
        Some(text) => limit(text).ok_or(Error::Limit(MAX_LIMIT))?,
    };
    let cursor = match query.cursor.as_deref() {
        None => PageCursor::START,
        Some(text) => decode(text).ok_or(Error::Cursor)?,
    };
    let answer = async move |presence: Arc<PresenceService>| {
        let page = presence.online_page(&cursor, limit).await?;
        let page = OnlinePage {
            online: page.online,
            next_cursor: page.next.map(|cursor| encode(&cursor)),
        };
        Ok(JsonLine(page).into_response())
    };
    state.batch.run(answer).await
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
    let count = async move |presence: Arc<PresenceService>| Ok(presence.count().await?);
    let count = state.batch.run(count).await?;
    Ok(JsonLine(OnlineCount { count }))
}

fn limit(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = digits.then(|| text.parse().ok()).flatten();
    limit.filter(|limit| (1..=MAX_LIMIT).contains(limit))
}

/// How many bytes of the digest of a cursor come before it.
const SEAL: usize = 6;

/// What a cursor begins with. A cursor that was made up does not have it and is refused, whatever
/// it would have cost to follow. What a forged one may cost is bounded where it is followed.
fn seal(lines: &[u8]) -> [u8; SEAL] {
    let mut context = Context::new(&SHA256);
    context.update(b"presence: cursor of the list\n");
    context.update(lines);
    let digest = context.finish();
    let mut seal = [0; SEAL];
    seal.copy_from_slice(&digest.as_ref()[..SEAL]);
    seal
}

/// The seal, then lines: where to go on, after which id, and with whom to begin; ids have no line
/// breaks.
fn encode(cursor: &PageCursor) -> String {
    let (place, after, carried) = match cursor {
        PageCursor::After(after) => ("after".to_owned(), after, &[][..]),
        PageCursor::Scan {
            carried,
            place,
            beyond,
        } => {
            let place = place.map_or("end".to_owned(), |place| place.to_string());
            (place, beyond, &carried[..])
        }
    };
    let after = after.as_ref().map_or("", UserId::as_str);
    let carried = carried.iter().map(UserId::as_str);
    let lines: Vec<_> = [&*place, after].into_iter().chain(carried).collect();
    let lines = lines.join("\n");
    let sealed = [&seal(lines.as_bytes()), lines.as_bytes()].concat();
    URL_SAFE_NO_PAD.encode(sealed)
}

fn decode(text: &str) -> Option<PageCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (sealed, lines) = bytes.split_first_chunk()?;
    if *sealed != seal(lines) {
        return None;
    }
    let mut lines = std::str::from_utf8(lines).ok()?.split('\n');
    let place = lines.next()?;
    let after = match lines.next()? {
        "" => None,
        after => Some(UserId::new(after).ok()?),
    };
    let carried: Option<Vec<_>> = lines.map(|line| UserId::new(line).ok()).collect();
    let carried = carried?;
    let place = match place {
        "after" if carried.is_empty() => return Some(PageCursor::After(after)),
        "end" => None,
        place => Some(place.parse().ok()?),
    };
    Some(PageCursor::Scan {
        carried,
        place,
        beyond: after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_text(place: Option<u64>, texts in vec("\\PC{1,30}", 0..4)) {
            let users = texts.iter().filter_map(|text| UserId::new(text).ok());
            let users: Vec<_> = users.collect();
            let beyond = users.first().cloned();
            let cursor = PageCursor::After(beyond.clone());
            prop_assert_eq!(decode(&encode(&cursor)), Some(cursor));
            let cursor = PageCursor::Scan { carried: users, place, beyond };
            prop_assert_eq!(decode(&encode(&cursor)), Some(cursor));
        }

        /// The form is right and the seal is not ours.
        #[test]
        fn a_cursor_that_was_made_up_is_refused(place: u64, seal: [u8; SEAL], sealed: bool) {
            let lines = format!("{place}\nzoe");
            let mut cursor = if sealed { seal.to_vec() } else { Vec::new() };
            cursor.extend(lines.as_bytes());
            prop_assert_eq!(decode(&URL_SAFE_NO_PAD.encode(cursor)), None);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[A-Za-z0-9_-]*") {
            let _ = decode(&text);
        }
    }
}
