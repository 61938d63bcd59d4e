//! The states of the members of groups. One call to the store serves many streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use tokio::runtime::Handle;

use crate::events::call_queue::{CALL_USERS, CallQueue};
use crate::events::hub::Hub;
use crate::events::hub::group_states::{GroupStates, Unknown};
use crate::events::hub::known::{Known, KnownMembers, KnownUsers};
use crate::events::interest::GroupInterest;
use crate::events::shared_read::Answer;
use crate::model::{Epoch, GroupId, Partition, Position, UserId};
use crate::store::{Store, StoreError};

/// Maximum number of reads of the states. Another read is needed if users joined the groups meanwhile.
const ATTEMPTS: usize = 5;

/// Reads the states of the members of groups.
#[derive(Debug)]
pub(crate) struct MemberStates {
    store: Arc<Store>,
    hub: Arc<Hub>,
    calls: CallQueue<Users, Read>,
}

/// The users that a caller needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Users {
    MembersOf(GroupId),
    Listed(Arc<[UserId]>),
}

impl Users {
    fn list(self, hub: &Hub) -> Arc<[UserId]> {
        match self {
            Self::MembersOf(group) => hub.members_of(&group).into(),
            Self::Listed(users) => users,
        }
    }
}

impl MemberStates {
    /// Returns an idle value. Calls will run on `runtime`.
    pub(crate) fn new(store: Arc<Store>, hub: Arc<Hub>, runtime: Handle) -> Self {
        Self {
            store,
            hub,
            calls: CallQueue::new(runtime),
        }
    }

    /// Reads the states of all members and listed users, then applies the events that happened meanwhile. So the states
    /// are exact as of the newest event that this instance received.
    pub(crate) async fn read(&self, interest: &GroupInterest) -> Result<GroupStates, StoreError> {
        let generation = self.hub.end_of_ring().generation;
        let groups = interest.groups.iter().cloned().map(Users::MembersOf);
        let mut known = KnownMembers {
            of_groups: try_join_all(groups.map(|members| self.ask(members))).await?,
            others: Vec::new(),
        };
        let mut others = interest.users.to_vec();
        for _ in 0..ATTEMPTS {
            if !others.is_empty() {
                let others = self.ask(Users::Listed(others.into())).await?;
                known.others.push(others);
            }
            match self.hub.group_states(interest, &known, generation) {
                Ok(states) => return Ok(states),
                Err(Unknown::Changed) => break,
                Err(Unknown::Users(unknown)) => others = unknown,
            }
        }
        Err(changed())
    }

    /// Returns the states of users, after this instance received the events up to there.
    async fn ask(&self, users: Users) -> Result<Arc<KnownUsers>, StoreError> {
        let count = match &users {
            Users::MembersOf(group) => self.hub.member_count(group),
            Users::Listed(users) => users.len(),
        };
        let (store, hub) = (Arc::clone(&self.store), Arc::clone(&self.hub));
        let call = move |keys| call(Arc::clone(&store), Arc::clone(&hub), keys);
        let read = self.calls.ask(users, count, call).await?;
        let has_received = |hub: &Hub| read.at.iter().all(|each| hub.has_reached(*each));
        if self.hub.catches_up(has_received).await {
            Ok(read.users)
        } else {
            Err(changed())
        }
    }
}

/// The answer to one key.
#[derive(Clone, Debug)]
struct Read {
    /// The states of the users of the key, and of others of the same call.
    users: Arc<KnownUsers>,
    /// The positions of which the states of the users of the key are.
    at: Vec<(Partition, Epoch, Position)>,
}

/// Returns the states of all these users, for each key whose partitions all answered.
async fn call(store: Arc<Store>, hub: Arc<Hub>, keys: Vec<Users>) -> Vec<Answer<Read>> {
    let lists: Vec<_> = keys.into_iter().map(|key| key.list(&hub)).collect();
    let mut by_partition: BTreeMap<Partition, BTreeSet<&UserId>> = BTreeMap::new();
    for user in lists.iter().flat_map(|list| list.iter()) {
        let partition = hub.partitions().of(user);
        by_partition.entry(partition).or_default().insert(user);
    }
    let reads = by_partition.into_iter().map(|(partition, users)| {
        let users: Vec<_> = users.into_iter().cloned().collect();
        let store = &store;
        async move { (partition, read_partition(store, users).await) }
    });
    let (mut users, mut positions) = (KnownUsers::default(), BTreeMap::new());
    for (partition, read) in join_all(reads).await {
        let read = read.map(|(known, at)| {
            users.extend(known);
            at
        });
        positions.insert(partition, read);
    }
    let users = Arc::new(users);
    let answers = lists.iter().map(|list| {
        let partitions = list.iter().map(|user| hub.partitions().of(user));
        let partitions: BTreeSet<_> = partitions.collect();
        let mut at = Vec::new();
        for read in partitions.iter().filter_map(|each| positions.get(each)) {
            at.extend(read.clone()?);
        }
        let users = Arc::clone(&users);
        Ok(Read { users, at })
    });
    answers.collect()
}

/// The states of users of one partition, and the positions of which they are.
type PartitionRead = (KnownUsers, Vec<(Partition, Epoch, Position)>);

async fn read_partition(store: &Store, users: Vec<UserId>) -> Result<PartitionRead, StoreError> {
    let (mut known, mut at) = (KnownUsers::default(), Vec::new());
    for part in users.chunks(CALL_USERS) {
        let announced = store.announced_among(part).await?;
        let position = announced.at.first().map(|(_, _, position)| *position);
        let unannounced = Known {
            announced: None,
            position: position.unwrap_or_default(),
        };
        known.extend(part.iter().map(|user| (user.clone(), unannounced.clone())));
        let without_state = announced.users.into_iter().map(|user| (user, None));
        let states = announced.states.into_iter();
        let states = states.map(|(user, state)| (user, Some(state)));
        for (user, state) in without_state.chain(states) {
            if let Some(known) = known.get_mut(&user) {
                known.announced = Some(state);
            }
        }
        at.extend(announced.at);
    }
    Ok((known, at))
}

fn changed() -> StoreError {
    StoreError::Unreachable("the history changed during a snapshot".to_owned())
}
