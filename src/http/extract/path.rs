//! The id in a path.

use std::borrow::Cow;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::http::error::Error;
use crate::model::{GroupId, UserId};

/// The prefix of the paths of one user. The user id follows, up to the next slash.
const USERS_PATH: &str = "/v1/users/";

/// The prefix of the paths of one group. The group id follows, up to the next slash.
const GROUPS_PATH: &str = "/v1/groups/";

/// The `{userId}` of the path, percent-decoded.
#[derive(Debug)]
pub(crate) struct UserPath(pub(crate) UserId);

/// The `{groupId}` of the path, percent-decoded.
#[derive(Debug)]
pub(crate) struct GroupPath(pub(crate) GroupId);

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let user_id = segment(parts, USERS_PATH).ok_or(Error::UserIdNotUtf8)?;
        UserId::new(&user_id).map(Self).map_err(Error::UserId)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for GroupPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let group_id = segment(parts, GROUPS_PATH).ok_or(Error::GroupIdNotUtf8)?;
        GroupId::new(&group_id).map(Self).map_err(Error::GroupId)
    }
}

/// The part of the path from `prefix` up to the next slash, percent-decoded. `None`: not UTF-8.
fn segment<'a>(parts: &'a Parts, prefix: &str) -> Option<Cow<'a, str>> {
    let path = parts.uri.path();
    let rest = path.strip_prefix(prefix).unwrap_or_default();
    let end = rest.bytes().position(|byte| byte == b'/');
    let encoded = &rest[..end.unwrap_or(rest.len())];
    percent_decode_str(encoded).decode_utf8().ok()
}
