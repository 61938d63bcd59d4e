//! Extractors: parse parts of a request into domain types. An error names the field.

mod body;
mod group_ids;
mod json;
mod listed;
mod path;
mod user_ids;
mod whole_number;

pub(crate) use self::body::{JsonBody, NoBody, OptionalJson, ShortJsonBody};
pub(crate) use self::group_ids::{group_ids, stated_groups};
pub(crate) use self::listed::Listed;
pub(super) use self::listed::optional_list;
pub(crate) use self::path::{GroupPath, UserPath};
pub(crate) use self::user_ids::{member_ids, user_ids};
pub(crate) use self::whole_number::WholeNumber;
