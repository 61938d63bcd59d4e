//! The calls about groups.

use super::Store;
use super::error::StoreError;
use super::members::Members;
use crate::model::{GroupId, GroupWritten, UserId};

/// Groups keep this contract:
///
/// 1. A change of the stored members of a group and its events are one atomic step. A large `replace_group` takes
///    several such steps.
/// 2. A `replace_group` that is decided is finished, also if its instance dies. Of two that overlap, the one that began
///    last decides.
/// 3. A user is stored in 1,000 groups at most, and a group has at most `PRESENCE_GROUP_MEMBERS` stored members. A user
///    joins by pinging only while the group has fewer members than that.
/// 4. A connection is a member of a group that it stated, and that accepted it, until a later call of the connection
///    omits the group, or the connection ends. The first and the last membership of a user in a group, stored or by a
///    connection, and its event are one atomic step.
/// 5. The departure of a connection that expired is announced by the next sweep, unless it is held after an outage, as
///    the departure of a user is.
impl Store {
    /// Makes `members` the stored members of a group. No user may be repeated.
    pub async fn replace_group(
        &self,
        group: &GroupId,
        members: &[UserId],
    ) -> Result<GroupWritten, StoreError> {
        match self {
            Self::Memory(store) => store
                .replace_group(group, members)
                .map_err(StoreError::GroupRefused),
            Self::Redis(store) => store.replace_group(group, members).await,
        }
    }

    /// Adds and removes stored members of a group in one step. No user may be repeated, or be in both lists.
    pub async fn change_group(
        &self,
        group: &GroupId,
        add: &[UserId],
        remove: &[UserId],
    ) -> Result<GroupWritten, StoreError> {
        match self {
            Self::Memory(store) => store
                .change_group(group, add, remove)
                .map_err(StoreError::GroupRefused),
            Self::Redis(store) => store.change_group(group, add, remove).await,
        }
    }

    /// All members of a group, ordered by id. An unknown group has none.
    pub async fn group_members(
        &self,
        group: &GroupId,
        which: Members,
    ) -> Result<Vec<UserId>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.group_members(group, which)),
            Self::Redis(store) => store.group_members(group, which).await,
        }
    }

    /// Whether a user is a member of a group now.
    pub async fn is_member(&self, group: &GroupId, user: &UserId) -> Result<bool, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.is_member(group, user)),
            Self::Redis(store) => {
                let user = std::slice::from_ref(user);
                let answer = store.are_members(group, user, Members::Now).await?;
                Ok(answer == [true])
            }
        }
    }

    /// The groups of which a user is an announced member, in any order.
    pub async fn groups_of(&self, user: &UserId) -> Result<Vec<GroupId>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.groups_of(user)),
            Self::Redis(store) => store.groups_of(user).await,
        }
    }

    /// Finishes the calls of `replace_group` whose instance died. Call this every second or so.
    pub async fn finish_group_writes(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(store) => store.finish_puts().await,
        }
    }
}
