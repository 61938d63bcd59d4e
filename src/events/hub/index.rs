//! Finds the subscribers that are interested in a user.

use std::collections::hash_map::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::events::interest::{AudienceId, Interest};
use crate::events::subscriber::Subscriber;
use crate::model::{GroupEvent, UserId};

/// The audience of the streams that carry the events of all users.
const ALL_USERS: AudienceId = 0;

/// Users that one step inserts into the index, or removes from it.
const STEP: usize = 512;

/// All subscribers, by their interest.
///
/// Streams with equal interests form one audience. An audience keeps one copy of its list and one
/// entry in the index for each of its users.
#[derive(Debug)]
pub(crate) struct Index {
    audiences: HashMap<AudienceId, Audience>,
    by_user: HashMap<UserId, Audiences>,
    /// The audiences of the streams of own groups, by their user.
    by_own: HashMap<UserId, BTreeSet<AudienceId>>,
    /// Audiences by the hash of their interest.
    by_interest: HashMap<u64, Vec<AudienceId>>,
    next: AudienceId,
    /// Users and groups in the lists of all audiences. Each takes about as much memory.
    watched: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Audience {
    interest: Interest,
    hash: u64,
    subscribers: BTreeMap<u64, Arc<Subscriber>>,
    /// Users of the list that are in the index already.
    inserted: usize,
}

/// The audiences that are interested in one user. Most users have one.
#[derive(Debug)]
enum Audiences {
    One(AudienceId),
    Several(BTreeSet<AudienceId>),
}

/// How far the delivery of an event has come: an audience, and the last subscriber served in it.
pub(crate) type DeliveryPoint = (AudienceId, Option<u64>);

impl Index {
    pub(crate) fn new() -> Self {
        let all_users = Audience {
            interest: Interest::AllUsers,
            hash: 0,
            subscribers: BTreeMap::new(),
            inserted: 0,
        };
        Self {
            audiences: HashMap::from([(ALL_USERS, all_users)]),
            by_user: HashMap::new(),
            by_own: HashMap::new(),
            by_interest: HashMap::new(),
            next: ALL_USERS + 1,
            watched: 0,
            hasher: RandomState::default(),
        }
    }

    /// Returns the audience with this interest. The audience may be new and empty. Returns `None` if its
    /// lists would raise the number of watched users and groups above `limit`.
    pub(crate) fn audience(&mut self, interest: &Interest, limit: usize) -> Option<AudienceId> {
        if *interest == Interest::AllUsers {
            return Some(ALL_USERS);
        }
        let listed = interest.listed().len() + interest.listed_groups().len();
        let hash = self.hasher.hash_one(interest);
        let audiences = &self.audiences;
        let has_interest = |id: &&AudienceId| {
            audiences
                .get(id)
                .is_some_and(|audience| audience.interest == *interest)
        };
        let with_same_hash = self.by_interest.get(&hash);
        if let Some(id) = with_same_hash.and_then(|audiences| audiences.iter().find(has_interest)) {
            return Some(*id);
        }
        if self.watched + listed > limit {
            return None;
        }
        let id = self.next;
        self.next += 1;
        self.by_interest.entry(hash).or_default().push(id);
        if let Some(user) = interest.own() {
            self.by_own.entry(user.clone()).or_default().insert(id);
        }
        self.watched += listed;
        let audience = Audience {
            interest: interest.clone(),
            hash,
            subscribers: BTreeMap::new(),
            inserted: 0,
        };
        self.audiences.insert(id, audience);
        Some(id)
    }

    /// Returns the number of users and groups in the lists of all audiences.
    pub(crate) fn watched(&self) -> usize {
        self.watched
    }

    /// Returns the audience's shared copy of the interest.
    pub(crate) fn interest(&self, id: AudienceId) -> Interest {
        let audience = self.audiences.get(&id);
        audience.map_or(Interest::AllUsers, |audience| audience.interest.clone())
    }

    /// Adds a subscriber to an audience.
    pub(crate) fn add(&mut self, id: AudienceId, subscriber: &Arc<Subscriber>) {
        if let Some(audience) = self.audiences.get_mut(&id) {
            audience
                .subscribers
                .insert(subscriber.id, Arc::clone(subscriber));
        }
    }

    /// Inserts the next users of an audience into the index. Returns false once all users are inserted.
    pub(crate) fn insert_some(&mut self, id: AudienceId) -> bool {
        let Some(audience) = self.audiences.get_mut(&id) else {
            return false;
        };
        let users = audience.interest.listed();
        let step = users.iter().skip(audience.inserted).take(STEP);
        for user in step {
            audience.inserted += 1;
            match self.by_user.get_mut(user) {
                Some(audiences) => audiences.add(id),
                None => drop(self.by_user.insert(user.clone(), Audiences::One(id))),
            }
        }
        audience.inserted < users.len()
    }

    /// Removes a subscriber. Returns the audience if this was its last subscriber;
    /// [`Index::remove_some`] then removes the users of the audience from the index.
    pub(crate) fn remove(
        &mut self,
        id: AudienceId,
        subscriber: &Subscriber,
    ) -> Option<RemovedAudience> {
        let audience = self.audiences.get_mut(&id)?;
        audience.subscribers.remove(&subscriber.id);
        if !audience.subscribers.is_empty() || id == ALL_USERS {
            return None;
        }
        let audience = self.audiences.remove(&id)?;
        self.watched -= audience.interest.listed_groups().len();
        if let Some(user) = audience.interest.own()
            && let Some(own) = self.by_own.get_mut(user)
        {
            own.remove(&id);
            if own.is_empty() {
                self.by_own.remove(user);
            }
        }
        if let Some(with_same_hash) = self.by_interest.get_mut(&audience.hash) {
            with_same_hash.retain(|each| *each != id);
            if with_same_hash.is_empty() {
                self.by_interest.remove(&audience.hash);
            }
        }
        Some(RemovedAudience {
            id,
            interest: audience.interest,
            removed_users: 0,
        })
    }

    /// Removes the next users of a removed audience from the index. Returns false once all users are
    /// removed.
    pub(crate) fn remove_some(&mut self, removed: &mut RemovedAudience) -> bool {
        let users = removed.interest.listed();
        for user in users.iter().skip(removed.removed_users).take(STEP) {
            removed.removed_users += 1;
            self.watched -= 1;
            if let Some(audiences) = self.by_user.get_mut(user)
                && audiences.remove(removed.id)
            {
                self.by_user.remove(user);
            }
        }
        removed.removed_users < users.len()
    }

    /// The audiences of the streams whose own groups change with this event.
    pub(crate) fn with_own_change(&self, event: &GroupEvent) -> Vec<AudienceId> {
        if self.by_own.is_empty() {
            return Vec::new();
        }
        let audiences = event.users().filter_map(|user| self.by_own.get(user));
        let audiences = audiences.flatten().copied().filter(|id| {
            let audience = self.audiences.get(id);
            audience.is_some_and(|audience| match &audience.interest {
                Interest::Groups(interest) => interest.is_own_change(event),
                Interest::AllUsers | Interest::Users(_) => false,
            })
        });
        audiences.collect()
    }

    /// The subscribers of an audience.
    pub(crate) fn subscribers(&self, id: AudienceId) -> impl Iterator<Item = &Arc<Subscriber>> {
        let audience = self.audiences.get(&id).into_iter();
        audience.flat_map(|audience| audience.subscribers.values())
    }

    /// Whether an audience has subscribers.
    pub(crate) fn has_subscribers(&self, id: AudienceId) -> bool {
        let audience = self.audiences.get(&id);
        audience.is_some_and(|audience| !audience.subscribers.is_empty())
    }

    /// The audiences that list `user`, and the audience of all users, in order.
    pub(crate) fn interested_in(&self, user: &UserId) -> Vec<AudienceId> {
        let (one, several) = match self.by_user.get(user) {
            Some(Audiences::One(id)) => (Some(*id), None),
            Some(Audiences::Several(ids)) => (None, Some(ids)),
            None => (None, None),
        };
        let several = several.into_iter().flatten().copied();
        std::iter::once(ALL_USERS)
            .chain(one)
            .chain(several)
            .collect()
    }

    /// Calls `deliver` for up to `limit` subscribers of these audiences, which are in order, starting after the given
    /// point. Returns the point where it stopped, or `None` if no subscriber is left.
    pub(crate) fn for_each_in(
        &self,
        audiences: &[AudienceId],
        (from, after): DeliveryPoint,
        limit: usize,
        mut deliver: impl FnMut(&Arc<Subscriber>),
    ) -> Option<DeliveryPoint> {
        let mut remaining = limit;
        let first = audiences.partition_point(|id| *id < from);
        for id in audiences[first..].iter().copied() {
            let Some(audience) = self.audiences.get(&id) else {
                continue;
            };
            let after = if id == from { after } else { None };
            let after = after.map_or(Bound::Unbounded, Bound::Excluded);
            for subscriber in audience.subscribers.range((after, Bound::Unbounded)) {
                deliver(subscriber.1);
                remaining -= 1;
                if remaining == 0 {
                    return Some((id, Some(*subscriber.0)));
                }
            }
        }
        None
    }
}

/// An audience without subscribers. Its users are still being removed from the index.
#[derive(Debug)]
pub(crate) struct RemovedAudience {
    pub(crate) id: AudienceId,
    pub(crate) interest: Interest,
    removed_users: usize,
}

impl Audiences {
    fn add(&mut self, id: AudienceId) {
        match self {
            Self::One(one) => *self = Self::Several(BTreeSet::from([*one, id])),
            Self::Several(ids) => {
                ids.insert(id);
            }
        }
    }

    /// Removes an audience. Returns whether no audience is left.
    fn remove(&mut self, id: AudienceId) -> bool {
        match self {
            Self::One(one) => *one == id,
            Self::Several(ids) => {
                ids.remove(&id);
                ids.is_empty()
            }
        }
    }
}

#[cfg(test)]
mod tests;
