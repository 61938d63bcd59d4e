//! The states of the members of groups. One call to the store serves many streams.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::runtime::Handle;

use crate::events::call_queue::{CALL_USERS, CallQueue};
use crate::events::hub::Hub;
use crate::events::hub::group_states::{GroupStates, Unknown};
use crate::events::hub::known::{Known, KnownMembers, KnownUsers};
use crate::events::interest::GroupInterest;
use crate::model::{GroupId, Partition, Position, UserId};
use crate::store::{Store, StoreError};

/// Maximum number of reads of the states. Another read is needed if users joined the groups meanwhile.
const ATTEMPTS: usize = 5;

/// Reads the states of the members of groups.
#[derive(Debug)]
pub(crate) struct MemberStates {
    store: Arc<Store>,
    hub: Arc<Hub>,
    calls: CallQueue<Users, Arc<KnownUsers>>,
}

/// The users that a caller needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Users {
    MembersOf(GroupId),
    Listed(Arc<[UserId]>),
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
            match self.hub.group_states(interest, &known) {
                Ok(states) => return Ok(states),
                Err(Unknown::Copy) => break,
                Err(Unknown::Users(joined)) => others = joined,
            }
        }
        Err(changed())
    }

    async fn ask(&self, users: Users) -> Result<Arc<KnownUsers>, StoreError> {
        let count = match &users {
            Users::MembersOf(group) => self.hub.member_count(group),
            Users::Listed(users) => users.len(),
        };
        let (store, hub) = (Arc::clone(&self.store), Arc::clone(&self.hub));
        let call = move |users| call(Arc::clone(&store), Arc::clone(&hub), users);
        self.calls.ask(users, count, call).await
    }
}

/// Returns the states of all these users, once for each key.
async fn call(
    store: Arc<Store>,
    hub: Arc<Hub>,
    keys: Vec<Users>,
) -> Result<Vec<Arc<KnownUsers>>, StoreError> {
    let mut users = Vec::new();
    for key in &keys {
        match key {
            Users::MembersOf(group) => users.extend(hub.members_of(group)),
            Users::Listed(listed) => users.extend_from_slice(listed),
        }
    }
    users.sort_unstable();
    users.dedup();
    let mut known = KnownUsers::default();
    for part in users.chunks(CALL_USERS) {
        read_part(&store, &hub, part, &mut known).await?;
    }
    let known = Arc::new(known);
    Ok(keys.iter().map(|_| Arc::clone(&known)).collect())
}

/// Adds the states of some users, after this instance received the events up to there.
async fn read_part(
    store: &Store,
    hub: &Hub,
    users: &[UserId],
    known: &mut KnownUsers,
) -> Result<(), StoreError> {
    let announced = store.announced_among(users).await?;
    let has_received = |hub: &Hub| {
        announced.at.iter().all(|(partition, epoch, position)| {
            let received = hub.newest(*partition);
            received.is_some_and(|(known, newest)| known == *epoch && newest >= *position)
        })
    };
    if !hub.catches_up(has_received).await {
        return Err(changed());
    }
    let positions: HashMap<Partition, Position> = announced
        .at
        .iter()
        .map(|(partition, _, position)| (*partition, *position))
        .collect();
    for user in users {
        let partition = hub.partitions().of(user);
        let position = positions.get(&partition).copied().unwrap_or_default();
        let unannounced = Known {
            announced: None,
            position,
        };
        known.insert(user.clone(), unannounced);
    }
    let without_state = announced.users.into_iter().map(|user| (user, None));
    let states = announced.states.into_iter();
    let states = states.map(|(user, state)| (user, Some(state)));
    for (user, state) in without_state.chain(states) {
        if let Some(known) = known.get_mut(&user) {
            known.announced = Some(state);
        }
    }
    Ok(())
}

fn changed() -> StoreError {
    StoreError::Unreachable("the history changed during a snapshot".to_owned())
}
