//! The statuses of users, online or not.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{LastingStatus, Timestamp, UserId};

/// The maximum number of statuses, which take about 300 MiB if all have the most data. The first to end is dropped
/// first.
const MAX_STATUSES: usize = 250_000;

#[derive(Debug)]
struct Kept {
    status: LastingStatus,
    /// When to look at the status: it ends, or the user is forgotten.
    look_at: Option<Timestamp>,
}

/// The statuses by user, and by the time of the next look.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    users: BTreeMap<UserId, Kept>,
    looks: BTreeSet<(Timestamp, UserId)>,
}

impl Statuses {
    /// The status of a user. It may have ended.
    pub(super) fn get(&self, user: &UserId) -> Option<&LastingStatus> {
        self.users.get(user).map(|kept| &kept.status)
    }

    /// The status of a user, unless it has ended.
    pub(super) fn current(&self, user: &UserId, now: Timestamp) -> Option<&LastingStatus> {
        let status = self.get(user);
        status.filter(|status| status.ends_at.is_none_or(|ends| ends > now))
    }

    /// Sets the status of a user. It is looked at when it ends, or at `forgotten_at`.
    pub(super) fn set(
        &mut self,
        user: &UserId,
        status: LastingStatus,
        forgotten_at: Option<Timestamp>,
    ) {
        self.remove(user);
        if self.users.len() >= MAX_STATUSES
            && let Some((_, first)) = self.looks.first().cloned()
        {
            self.remove(&first);
        }
        let look_at = status.ends_at.or(forgotten_at);
        self.looks.extend(look_at.map(|at| (at, user.clone())));
        self.users.insert(user.clone(), Kept { status, look_at });
    }

    /// The user goes offline or comes online: a status without an end is forgotten at `forgotten_at`.
    pub(super) fn keep_until(&mut self, user: &UserId, forgotten_at: Option<Timestamp>) {
        if let Some(status) = self.get(user).cloned() {
            self.set(user, status, forgotten_at);
        }
    }

    pub(super) fn remove(&mut self, user: &UserId) -> bool {
        let Some(kept) = self.users.remove(user) else {
            return false;
        };
        if let Some(at) = kept.look_at {
            self.looks.remove(&(at, user.clone()));
        }
        true
    }

    /// When to look at the first status.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// The first user whose status ends or is forgotten now.
    pub(super) fn first_ended(&self, now: Timestamp) -> Option<UserId> {
        let (at, user) = self.looks.first()?;
        (*at <= now).then(|| user.clone())
    }
}
