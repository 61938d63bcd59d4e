//! Extractors: parse parts of a request into domain types. An error names the field.

mod body;
mod json;
mod path;
mod user_ids;

pub(crate) use self::body::{JsonBody, NoBody, OptionalJson};
pub(crate) use self::path::{GroupPath, UserPath};
pub(super) use self::user_ids::listed_users;
pub(crate) use self::user_ids::{ListedUser, member_ids, user_ids};
