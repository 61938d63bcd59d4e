//! Users that are not members of a group any more, and whose records are too young to be deleted.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::{GroupId, UserId};

/// A record is deleted only if it was at least this old when its user was found not to be a member. Then no call that
/// began before can still add the user.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// The maximum number of users that wait. The records of others stay until they are checked.
const MOST: usize = 50_000;

/// The former members of groups that wait until their records can be deleted. An instance that ends forgets them, and
/// their records stay until they are checked.
#[derive(Debug, Default)]
pub(super) struct FormerMembers(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<(Instant, GroupId, Vec<UserId>)>,
    users: usize,
}

impl FormerMembers {
    /// Adds users that may not be members of a group any more.
    pub(super) fn add(&self, group: &GroupId, users: Vec<UserId>) {
        let mut waiting = self.0.lock();
        if users.is_empty() || waiting.users + users.len() > MOST {
            return;
        }
        waiting.users += users.len();
        let at = Instant::now() + SETTLED;
        waiting.batches.push_back((at, group.clone(), users));
    }

    /// Takes users that were added long enough ago.
    pub(super) fn take_settled(&self) -> Option<(GroupId, Vec<UserId>)> {
        let mut waiting = self.0.lock();
        let is_settled = |(at, ..): &&(Instant, GroupId, Vec<UserId>)| *at <= Instant::now();
        waiting.batches.front().filter(is_settled)?;
        let (_, group, users) = waiting.batches.pop_front()?;
        waiting.users -= users.len();
        Some((group, users))
    }
}
