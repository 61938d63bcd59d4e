//! What a stream follows, and whether its caller may.

use crate::auth::Caller;
use crate::events::{Interest, Wanted};
use crate::http::error::Error;
use crate::http::extract::{Listed, group_ids, user_ids};
use crate::http::permissions::authorize_group;
use crate::http::state::AppState;
use crate::model::{GroupId, UserId};

/// Users of one stream, unless the stream carries the events of all users.
const MAX_USERS: usize = 10_000;

/// Groups of one stream.
const MAX_GROUPS: usize = 100;

/// What a stream of these users and groups follows. Fails unless the caller may see all of them.
pub(super) async fn wanted(
    state: &AppState,
    caller: &Caller,
    users: Option<Vec<Listed<UserId>>>,
    groups: Option<Vec<Listed<GroupId>>>,
) -> Result<Wanted, Error> {
    if users.is_none() && groups.is_none() {
        if let Some(user) = caller.with_own_groups() {
            return Ok(Wanted::OwnGroups(user.clone()));
        }
        caller.authorize_read_all()?;
        return Ok(Wanted::Fixed(Interest::AllUsers));
    }
    let users = users
        .map(|listed| user_ids(listed, MAX_USERS))
        .transpose()?;
    let groups = groups.map(|listed| group_ids(listed, MAX_GROUPS));
    let groups = groups.transpose()?;
    caller.authorize_read_each(users.as_deref().unwrap_or_default())?;
    for group in groups.iter().flatten() {
        authorize_group(state, caller, group).await?;
    }
    let users = users.unwrap_or_default();
    Ok(Wanted::Fixed(match groups {
        Some(groups) => Interest::groups(groups, users),
        None => Interest::users(users),
    }))
}
