//! Extractors: parse parts of a request into domain types. An error names the field.

mod body;
mod group_ids;
mod json;
mod path;
mod user_ids;
mod whole_number;

pub(crate) use self::body::{JsonBody, NoBody, OptionalJson, ShortJsonBody};
pub(super) use self::group_ids::listed_groups;
pub(crate) use self::group_ids::{ListedGroup, group_ids, stated_groups};
pub(crate) use self::path::{GroupPath, UserPath};
pub(super) use self::user_ids::listed_users;
pub(crate) use self::user_ids::{ListedUser, member_ids, user_ids};
pub(crate) use self::whole_number::WholeNumber;
