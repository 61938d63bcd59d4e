//! Finds the subscribers that are interested in a user.

use std::collections::hash_map::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::events::interest::{GroupId, Interest};
use crate::events::subscriber::Subscriber;
use crate::model::UserId;

/// The group of the streams that carry the events of all users.
const ALL_USERS: GroupId = 0;

/// Users that one step inserts into the index, or removes from it.
const STEP: usize = 512;

/// All subscribers, by their interest.
///
/// Streams with equal lists of users form one group. A group keeps one copy of its list and one
/// entry in the index for each of its users.
#[derive(Debug)]
pub(crate) struct Index {
    groups: HashMap<GroupId, Group>,
    by_user: HashMap<UserId, Groups>,
    /// Groups by the hash of their lists.
    by_list: HashMap<u64, Vec<GroupId>>,
    next: GroupId,
    /// Total length of the lists of all groups.
    watched: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Group {
    interest: Interest,
    hash: u64,
    subscribers: BTreeMap<u64, Arc<Subscriber>>,
    /// Users of the list that are in the index already.
    inserted: usize,
}

/// The groups that are interested in one user. Most users have one.
#[derive(Debug)]
enum Groups {
    One(GroupId),
    Several(BTreeSet<GroupId>),
}

/// How far the delivery of an event has come: a group, and the last subscriber served in it.
pub(crate) type DeliveryPoint = (GroupId, Option<u64>);

impl Index {
    pub(crate) fn new() -> Self {
        let all_users = Group {
            interest: Interest::AllUsers,
            hash: 0,
            subscribers: BTreeMap::new(),
            inserted: 0,
        };
        Self {
            groups: HashMap::from([(ALL_USERS, all_users)]),
            by_user: HashMap::new(),
            by_list: HashMap::new(),
            next: ALL_USERS + 1,
            watched: 0,
            hasher: RandomState::default(),
        }
    }

    /// Returns the group with this interest. The group may be new and empty. Returns `None` if its
    /// list would raise the number of watched users above `limit`.
    pub(crate) fn group(&mut self, interest: &Interest, limit: usize) -> Option<GroupId> {
        let Interest::Users(users) = interest else {
            return Some(ALL_USERS);
        };
        let hash = self.hasher.hash_one(users);
        let groups = &self.groups;
        let has_interest = |id: &&GroupId| {
            groups
                .get(id)
                .is_some_and(|group| group.interest == *interest)
        };
        let with_same_hash = self.by_list.get(&hash);
        if let Some(id) = with_same_hash.and_then(|groups| groups.iter().find(has_interest)) {
            return Some(*id);
        }
        if self.watched + users.len() > limit {
            return None;
        }
        let id = self.next;
        self.next += 1;
        self.by_list.entry(hash).or_default().push(id);
        self.watched += users.len();
        let group = Group {
            interest: interest.clone(),
            hash,
            subscribers: BTreeMap::new(),
            inserted: 0,
        };
        self.groups.insert(id, group);
        Some(id)
    }

    /// Returns the group's shared copy of the interest.
    pub(crate) fn interest(&self, id: GroupId) -> Interest {
        let group = self.groups.get(&id);
        group.map_or(Interest::AllUsers, |group| group.interest.clone())
    }

    /// Adds a subscriber to a group.
    pub(crate) fn add(&mut self, id: GroupId, subscriber: &Arc<Subscriber>) {
        if let Some(group) = self.groups.get_mut(&id) {
            group
                .subscribers
                .insert(subscriber.id, Arc::clone(subscriber));
        }
    }

    /// Inserts the next users of a group into the index. Returns false once all users are inserted.
    pub(crate) fn insert_some(&mut self, id: GroupId) -> bool {
        let Some(group) = self.groups.get_mut(&id) else {
            return false;
        };
        let Interest::Users(users) = &group.interest else {
            return false;
        };
        let step = users.iter().skip(group.inserted).take(STEP);
        for user in step {
            group.inserted += 1;
            match self.by_user.get_mut(user) {
                Some(groups) => groups.add(id),
                None => drop(self.by_user.insert(user.clone(), Groups::One(id))),
            }
        }
        group.inserted < users.len()
    }

    /// Removes a subscriber. Returns the group if this was its last subscriber;
    /// [`Index::remove_some`] then removes the users of the group from the index.
    pub(crate) fn remove(&mut self, subscriber: &Subscriber) -> Option<RemovedGroup> {
        let group = self.groups.get_mut(&subscriber.group)?;
        group.subscribers.remove(&subscriber.id);
        if !group.subscribers.is_empty() || subscriber.group == ALL_USERS {
            return None;
        }
        let group = self.groups.remove(&subscriber.group)?;
        if let Some(with_same_hash) = self.by_list.get_mut(&group.hash) {
            with_same_hash.retain(|id| *id != subscriber.group);
            if with_same_hash.is_empty() {
                self.by_list.remove(&group.hash);
            }
        }
        Some(RemovedGroup {
            id: subscriber.group,
            interest: group.interest,
            removed_users: 0,
        })
    }

    /// Removes the next users of a removed group from the index. Returns false once all users are
    /// removed.
    pub(crate) fn remove_some(&mut self, removed: &mut RemovedGroup) -> bool {
        let Interest::Users(users) = &removed.interest else {
            return false;
        };
        for user in users.iter().skip(removed.removed_users).take(STEP) {
            removed.removed_users += 1;
            self.watched -= 1;
            if let Some(groups) = self.by_user.get_mut(user)
                && groups.remove(removed.id)
            {
                self.by_user.remove(user);
            }
        }
        removed.removed_users < users.len()
    }

    /// Whether any subscriber is interested in `user`.
    pub(crate) fn is_watched(&self, user: &UserId) -> bool {
        self.by_user.contains_key(user)
            || self
                .groups
                .get(&ALL_USERS)
                .is_some_and(|all_users| !all_users.subscribers.is_empty())
    }

    /// Calls `deliver` for up to `limit` subscribers that are interested in `user`, starting after
    /// the given point. Returns the point where it stopped, or `None` if no subscriber is left.
    pub(crate) fn for_each_interested(
        &self,
        user: &UserId,
        (from, after): DeliveryPoint,
        limit: usize,
        mut deliver: impl FnMut(&Arc<Subscriber>),
    ) -> Option<DeliveryPoint> {
        let mut remaining = limit;
        let (one, several) = match self.by_user.get(user) {
            Some(Groups::One(id)) => (Some(*id), None),
            Some(Groups::Several(ids)) => (None, Some(ids)),
            None => (None, None),
        };
        let several = several
            .into_iter()
            .flat_map(|ids| ids.range(from..))
            .copied();
        let ids = std::iter::once(ALL_USERS).chain(one).chain(several);
        for id in ids.filter(|id| *id >= from) {
            let Some(group) = self.groups.get(&id) else {
                continue;
            };
            let after = if id == from { after } else { None };
            let after = after.map_or(Bound::Unbounded, Bound::Excluded);
            for subscriber in group.subscribers.range((after, Bound::Unbounded)) {
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

/// A group without subscribers. Its users are still being removed from the index.
#[derive(Debug)]
pub(crate) struct RemovedGroup {
    id: GroupId,
    interest: Interest,
    removed_users: usize,
}

impl Groups {
    fn add(&mut self, id: GroupId) {
        match self {
            Self::One(one) => *self = Self::Several(BTreeSet::from([*one, id])),
            Self::Several(ids) => {
                ids.insert(id);
            }
        }
    }

    /// Removes a group. Returns whether no group is left.
    fn remove(&mut self, id: GroupId) -> bool {
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
mod tests {
    use std::collections::BTreeSet as Set;

    use tokio::time::Instant;

    use super::*;
    use crate::events::sse::payload::EndReason;
    use crate::events::subscriber::SubscriberOptions;
    use crate::events::subscriber::queue_memory::QueueMemory;

    fn users(numbers: impl IntoIterator<Item = usize>) -> Interest {
        let ids = numbers
            .into_iter()
            .map(|number| UserId::new(&format!("user-{number}")));
        Interest::users(ids.collect::<Result<_, _>>().expect("good ids"))
    }

    fn open(index: &mut Index, id: u64, interest: &Interest) -> Arc<Subscriber> {
        let group = index.group(interest, usize::MAX).expect("a group");
        let options = SubscriberOptions {
            interest: interest.clone(),
            snapshot: false,
            closes: (Instant::now(), EndReason::MaxAge),
            credential: None,
        };
        let subscriber = Arc::new(Subscriber::new(
            id,
            group,
            index.interest(group),
            options,
            &QueueMemory::with_limit(0),
        ));
        index.add(group, &subscriber);
        while index.insert_some(group) {}
        subscriber
    }

    fn close(index: &mut Index, subscriber: &Subscriber) {
        if let Some(mut removed) = index.remove(subscriber) {
            while index.remove_some(&mut removed) {}
        }
    }

    /// Returns the subscribers that receive an event of this user, `limit` in each step.
    fn interested(index: &Index, user: usize, limit: usize) -> Vec<u64> {
        let user = UserId::new(&format!("user-{user}")).expect("an id");
        let mut streams = Vec::new();
        let mut delivered = Some(DeliveryPoint::default());
        while let Some(from) = delivered {
            delivered = index
                .for_each_interested(&user, from, limit, |subscriber| streams.push(subscriber.id));
        }
        streams
    }

    #[test]
    fn every_interested_stream_is_reached_once_with_any_part_size() {
        let mut index = Index::new();
        let interests = [
            Interest::AllUsers,
            users([1, 2]),
            users([2, 1]),
            users([2]),
            users([2, 3]),
            Interest::AllUsers,
            users(0..2_000),
        ];
        let subscribers: Vec<_> = (0..)
            .zip(&interests)
            .map(|(id, interest)| open(&mut index, id, interest))
            .collect();
        for limit in [1, 2, 3, 100] {
            let delivered = interested(&index, 2, limit);
            assert_eq!(delivered.len(), 7);
            assert_eq!(delivered.into_iter().collect::<Set<_>>(), (0..7).collect());
            assert_eq!(interested(&index, 1_999, limit), [0, 5, 6]);
            assert_eq!(interested(&index, 2_000, limit), [0, 5]);
        }
        assert!(
            subscribers[1].interest == subscribers[2].interest
                && subscribers[1].group == subscribers[2].group
        );
        for subscriber in &subscribers[..3] {
            close(&mut index, subscriber);
        }
        assert_eq!(interested(&index, 2, 1), [5, 3, 4, 6]);
        for subscriber in &subscribers[3..] {
            close(&mut index, subscriber);
        }
        assert_eq!(
            (index.watched, index.by_user.len(), index.groups.len()),
            (0, 0, 1)
        );
        assert!(index.by_list.is_empty());
    }

    #[test]
    fn equal_lists_count_once_and_a_list_beyond_the_limit_is_refused() {
        let mut index = Index::new();
        let first = open(&mut index, 0, &users(0..10));
        let limit = 15;
        assert_eq!(index.group(&users(0..10), limit), Some(first.group));
        assert_eq!(index.group(&users(10..20), limit), None);
        assert!(index.group(&users(10..15), limit).is_some());
        assert!(index.group(&Interest::AllUsers, limit).is_some());
    }
}
