//! Groups of users: the events of their members, and the results of calls about them.

use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

use super::event::Position;
use super::id::{GroupId, UserId};
use super::timestamp::Timestamp;

/// A change of the members of a group, as an entry of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEvent {
    /// The position of the event in the history.
    pub position: Position,
    /// The position of the entry before it. A reader notices a missing entry by it.
    pub previous: Position,
    /// The group.
    pub group: GroupId,
    /// When the members changed.
    pub at: Timestamp,
    /// The change.
    pub change: MemberChange,
}

/// The bytes of an id in addition to its text: the reference counts.
const ID_BYTES: usize = 16;

impl GroupEvent {
    /// The users that joined or left.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        let (joined, left) = match &self.change {
            MemberChange::Joined(joined) => (&joined[..], &[][..]),
            MemberChange::Left { users, .. } => (&[][..], &users[..]),
        };
        joined.iter().map(|joined| &joined.user).chain(left)
    }

    /// Whether users joined.
    pub fn has_joined(&self) -> bool {
        matches!(self.change, MemberChange::Joined(_))
    }

    /// Whether `user` joined or left.
    pub fn names(&self, user: &UserId) -> bool {
        self.users().any(|each| each == user)
    }

    /// The bytes of the event in memory, as if its ids were not shared.
    pub fn bytes(&self) -> usize {
        let id = |text: &str| ID_BYTES + text.len().next_multiple_of(8);
        let users = self
            .users()
            .map(|user| size_of::<JoinedUser>() + id(user.as_str()));
        size_of::<Self>() + id(self.group.as_str()) + users.sum::<usize>()
    }
}

/// Which users joined or left a group. There is at least one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// The users became members.
    Joined(Vec<JoinedUser>),
    /// The users ceased to be members.
    Left {
        /// The users.
        users: Vec<UserId>,
        /// Why they left.
        reason: LeftReason,
    },
}

/// A user that became a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedUser {
    /// The user.
    pub user: UserId,
    /// Whether the user was announced as of the position of the event.
    pub is_announced: bool,
}

/// Why users left a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeftReason {
    /// A back end removed the users.
    Removed,
    /// A connection closed, or a ping omitted the group.
    Disconnected,
    /// The connection that stated the group expired.
    Expired,
}

/// Why the store refuses a write of a group. A refused write changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupRefusal {
    /// The group would have more members than allowed.
    #[error("the group would have more than {most} members, the most allowed")]
    TooManyMembers {
        /// The maximum number of members of one group.
        most: usize,
    },
    /// The user is stored in the maximum number of groups.
    #[error("user {:?} is stored in {most} groups, the most allowed", .user.as_str())]
    TooManyGroups {
        /// The user.
        user: UserId,
        /// The maximum number of groups in which one user is stored.
        most: usize,
    },
}

/// The result of a write of the stored members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupWritten {
    /// The number of stored members after the call.
    pub members: usize,
    /// How many users the call added.
    pub added: usize,
    /// How many users the call removed.
    pub removed: usize,
}

/// A page of the online members of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPage {
    /// The number of members, online or not.
    pub members: usize,
    /// Online members in the order of their ids.
    pub online: Vec<UserId>,
    /// The user after whom the next page begins, if there may be one.
    pub next: Option<UserId>,
}

/// The size of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupCount {
    /// The number of members, online or not.
    pub members: usize,
    /// The number of online members.
    pub online: usize,
}
