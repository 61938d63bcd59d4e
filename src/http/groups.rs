//! Groups: write the stored members, read the online members, count.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::Error;
use super::extract::{JsonBody, Listed, NoBody, member_ids};
use super::json_line::JsonLine;
use super::online::cursor::encode;
use super::online::{OwnedState, states};
use super::openapi::responses::UnsupportedMediaType;
use super::openapi::{GroupIdInPath, UserIdText};
use super::page_query::PageQuery;
use super::permissions::{SeeingGroup, WritingGroup};
use super::query::{NoQuery, keep_once};
use super::state::AppState;
use crate::model::{GroupId, GroupWritten, PageCursor, StateFields, UserId};

/// The stored members of a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"members": ["alice", "bob"]}))]
pub(super) struct GroupMembersBody {
    /// Up to 10,000 user ids. `PRESENCE_GROUP_MEMBERS` changes the limit. A repeated id is one member.
    #[schema(value_type = Vec<UserIdText>, max_items = 10000, example = json!(["alice", "bob"]))]
    members: Vec<Listed<UserId>>,
}

/// A change of the stored members of a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"add": ["carol"], "remove": ["bob"]}))]
pub(super) struct GroupChangeBody {
    /// Up to 10,000 ids of users to add. `PRESENCE_GROUP_MEMBERS` changes the limit. Default: none.
    #[schema(value_type = Option<Vec<UserIdText>>, max_items = 10000, example = json!(["carol"]))]
    add: Option<Vec<Listed<UserId>>>,
    /// Up to 10,000 ids of users to remove. `PRESENCE_GROUP_MEMBERS` changes the limit. Default: none.
    #[schema(value_type = Option<Vec<UserIdText>>, max_items = 10000, example = json!(["bob"]))]
    remove: Option<Vec<Listed<UserId>>>,
}

/// The result of a write of the stored members of a group.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupResult {
    /// The group.
    #[schema(value_type = String, example = "team-7")]
    group_id: GroupId,
    /// The number of stored members after the call.
    #[schema(example = 2)]
    members: usize,
    /// How many users the call added.
    #[schema(example = 1)]
    added: usize,
    /// How many users the call removed.
    #[schema(example = 1)]
    removed: usize,
}

/// Whether a read has states.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "utoipa reads the field; the query is read by hand"
)]
pub(super) struct StatesQuery {
    /// Whether the response has the states of the online members. Default: false.
    #[param(example = true)]
    states: Option<bool>,
}

/// The query of a page of a group.
#[derive(Debug)]
struct GroupQuery {
    page: PageQuery,
    states: bool,
}

impl GroupQuery {
    fn read(query: &str) -> Result<Self, Error> {
        let mut states = None;
        let page = PageQuery::read_with_states(query, |value| {
            let value = value.parse().map_err(|_| Error::Query {
                field: "states",
                why: "true or false",
            })?;
            keep_once(&mut states, "states", value)
        })?;
        Ok(Self {
            page,
            states: states.unwrap_or(false),
        })
    }
}

/// A page of the online members of a group.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupState {
    /// The group.
    #[schema(value_type = String, example = "team-7")]
    group_id: GroupId,
    /// The number of members, online or not.
    #[schema(example = 40)]
    members: usize,
    /// At most `limit` online members, in the order of their ids.
    #[schema(value_type = Vec<String>, example = json!(["alice"]))]
    online: Vec<UserId>,
    /// The states of the listed users that are away or have a status. Only present if the request asks for states.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, StateFields>>, nullable = false, example = json!({"alice": {"away": true}}))]
    states: Option<BTreeMap<UserId, OwnedState>>,
    /// The `cursor` of the next page; `null` on the last page.
    #[schema(required, example = "PmlZhfudYWZ0ZXIKYm9i")]
    next_cursor: Option<String>,
}

/// The size of a group.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupSize {
    /// The group.
    #[schema(value_type = String, example = "team-7")]
    group_id: GroupId,
    /// The number of members, online or not.
    #[schema(example = 40)]
    members: usize,
    /// The number of online members.
    #[schema(example = 12)]
    online: usize,
}

/// Replace the members of a group
///
/// Makes the users of the list the stored members of the group. If two such calls overlap, the one that began last
/// decides. While a list of more than 500 users replaces another one, readers see a mix of both for some milliseconds.
#[utoipa::path(
    put, path = "/v1/groups/{groupId}", tag = "groups", operation_id = "replaceGroup",
    security(("bearer" = [])),
    params(GroupIdInPath),
    request_body = GroupMembersBody,
    responses(
        (status = 200, body = GroupResult, description = "The members are stored", example = json!({"groupId": "team-7", "members": 2, "added": 1, "removed": 1})),
        UnsupportedMediaType,
    )
)]
pub(super) async fn replace(
    WritingGroup(group): WritingGroup,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    JsonBody(body): JsonBody<GroupMembersBody>,
) -> Result<JsonLine<GroupResult>, Error> {
    let members = member_ids("members", body.members, state.config.limits.group_members)?;
    let written = state.presence.replace_group(&group, &members).await?;
    Ok(result(group, written))
}

/// Change the members of a group
///
/// Adds users to the stored members of the group and removes others, in one atomic step.
#[utoipa::path(
    patch, path = "/v1/groups/{groupId}", tag = "groups", operation_id = "changeGroup",
    security(("bearer" = [])),
    params(GroupIdInPath),
    request_body = GroupChangeBody,
    responses(
        (status = 200, body = GroupResult, description = "The members are stored", example = json!({"groupId": "team-7", "members": 2, "added": 1, "removed": 1})),
        UnsupportedMediaType,
    )
)]
pub(super) async fn change(
    WritingGroup(group): WritingGroup,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    JsonBody(body): JsonBody<GroupChangeBody>,
) -> Result<JsonLine<GroupResult>, Error> {
    let limit = state.config.limits.group_members;
    let add = member_ids("add", body.add.unwrap_or_default(), limit)?;
    let remove = member_ids("remove", body.remove.unwrap_or_default(), limit)?;
    let removed: HashSet<_> = remove.iter().collect();
    if let Some(user) = add.iter().find(|user| removed.contains(user)) {
        return Err(Error::AddedAndRemoved(user.as_str().to_owned()));
    }
    let written = state.presence.change_group(&group, &add, &remove).await;
    let written = written.map_err(|error| match Error::from(error) {
        // Only an added user can be one too many.
        Error::GroupRefused { refusal, .. } => Error::GroupRefused {
            field: "add",
            refusal,
        },
        other => other,
    })?;
    Ok(result(group, written))
}

/// Remove all members of a group
///
/// Removes the stored members of the group. Users who are members by pinging stay. The call succeeds also for an
/// unknown group.
#[utoipa::path(
    delete, path = "/v1/groups/{groupId}", tag = "groups", operation_id = "removeGroup",
    security(("bearer" = [])),
    params(GroupIdInPath),
    responses(
        (status = 200, body = GroupResult, description = "The group has no stored members", example = json!({"groupId": "team-7", "members": 0, "added": 0, "removed": 2})),
    )
)]
pub(super) async fn remove(
    WritingGroup(group): WritingGroup,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    _: NoBody,
) -> Result<JsonLine<GroupResult>, Error> {
    let written = state.presence.replace_group(&group, &[]).await?;
    Ok(result(group, written))
}

/// Get the online members of a group
///
/// Returns the number of members, and the online members page by page. An unknown group is empty; the status is 200 and
/// not 404.
#[utoipa::path(
    get, path = "/v1/groups/{groupId}", tag = "groups", operation_id = "getGroup",
    security(("bearer" = [])),
    params(GroupIdInPath, PageQuery, StatesQuery),
    responses(
        (status = 200, body = GroupState, description = "A page of the online members", example = json!({"groupId": "team-7", "members": 40, "online": ["alice"], "nextCursor": null})),
    )
)]
pub(super) async fn get(
    SeeingGroup(group): SeeingGroup,
    State(state): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
    _: NoBody,
) -> Result<JsonLine<GroupState>, Error> {
    let query = GroupQuery::read(query.as_deref().unwrap_or(""))?;
    let with_states = query.states;
    let query = query.page;
    let limit = query.limit()?;
    // The pages of a group are ordered by id.
    let partitions = state.presence.partitions();
    let PageCursor::After(after) = query.cursor(partitions)? else {
        return Err(Error::InvalidCursor);
    };
    let page = state
        .presence
        .group_page(&group, after.as_ref(), limit)
        .await?;
    let states = if with_states {
        Some(states(&state, &page.online).await?)
    } else {
        None
    };
    let next = page
        .next
        .map(|user| encode(&PageCursor::After(Some(user)), partitions));
    Ok(JsonLine(GroupState {
        group_id: group,
        members: page.members,
        online: page.online,
        states,
        next_cursor: next,
    }))
}

/// Count the members of a group
///
/// Returns the number of members, and how many of them are online. An unknown group is empty.
#[utoipa::path(
    get, path = "/v1/groups/{groupId}/count", tag = "groups", operation_id = "countGroup",
    security(("bearer" = [])),
    params(GroupIdInPath),
    responses(
        (status = 200, body = GroupSize, description = "The size of the group", example = json!({"groupId": "team-7", "members": 40, "online": 12})),
    )
)]
pub(super) async fn count(
    SeeingGroup(group): SeeingGroup,
    _: NoQuery,
    State(state): State<Arc<AppState>>,
    _: NoBody,
) -> Result<JsonLine<GroupSize>, Error> {
    let count = state.presence.count_group(&group).await?;
    Ok(JsonLine(GroupSize {
        group_id: group,
        members: count.members,
        online: count.online,
    }))
}

fn result(group_id: GroupId, written: GroupWritten) -> JsonLine<GroupResult> {
    JsonLine(GroupResult {
        group_id,
        members: written.members,
        added: written.added,
        removed: written.removed,
    })
}
