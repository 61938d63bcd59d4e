//! The user id in a path.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::http::error::Error;
use crate::model::UserId;

/// The prefix of the paths of one user. The user id follows, up to the next slash.
const USERS_PATH: &str = "/v1/users/";

/// The `{userId}` of the path, percent-decoded.
#[derive(Debug)]
pub(crate) struct UserPath(pub(crate) UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let path = parts.uri.path();
        let rest = path.strip_prefix(USERS_PATH).unwrap_or_default();
        let end = rest.bytes().position(|byte| byte == b'/');
        let encoded = &rest[..end.unwrap_or(rest.len())];
        let user_id = percent_decode_str(encoded).decode_utf8();
        let user_id = user_id.map_err(|_| Error::UserIdNotUtf8)?;
        Ok(Self(UserId::new(&user_id)?))
    }
}
