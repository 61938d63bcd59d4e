//! The messages that list the online users.

pub(super) mod all_users;
pub(super) mod groups;
pub(super) mod listed_users;
mod member_states;
pub(super) mod snapshot;
