//! The domain types: users, connections, groups, times, events, and the results of calls.
//!
//! This module imports no other module of the crate.

mod calls;
mod connection_id;
mod credential;
mod delivery;
mod entry;
mod event;
mod group;
mod history;
mod id;
mod instance;
mod moving;
mod page;
mod partition;
mod state;
mod timestamp;
mod vector;

pub use self::calls::{
    Closing, Connected, Disconnected, LiveConnection, Refusal, Stated, UserState, scaled_interval,
};
pub use self::connection_id::{ConnectionId, InvalidConnectionId};
pub use self::credential::Credential;
pub use self::delivery::{Claim, Delivery};
pub use self::entry::Entry;
pub use self::event::{Epoch, Position, PresenceEvent, Reason, UserChange};
pub use self::group::{
    GroupCount, GroupEvent, GroupPage, GroupRefusal, GroupWritten, JoinedUser, LeftReason,
    MemberChange,
};
pub use self::history::{Announced, History};
pub use self::id::{GroupId, InvalidId, UserId};
pub use self::instance::{InstanceReport, StoreSummary};
pub use self::moving::{MoveReport, MoveRole, MoveState, NextStore};
pub use self::page::{Page, PageCursor, PartPage, ScanPlace};
pub use self::partition::{Partition, PartitionSet, Partitions, slot_of};
pub use self::state::{LastingStatus, State, StateFields, Status};
pub use self::timestamp::{Timestamp, millis};
pub use self::vector::Vector;
