//! Snapshots of groups.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::events::hub::Hub;
use crate::events::hub::group_states::GroupStates;
use crate::events::hub::known::{Known, KnownUsers};
use crate::events::interest::{AudienceId, GroupInterest};
use crate::events::shared_read::{Answer, SharedRead};
use crate::events::snapshots::snapshot::{Snapshot, SnapshotMemory};
use crate::model::{Partition, Position, UserId};
use crate::store::{Store, StoreError};

/// Users that one call asks about.
const CALL_USERS: usize = 3_000;

/// How often the states are read, if users join the groups meanwhile.
const ATTEMPTS: usize = 5;

/// Creates the snapshots of streams of groups. The streams of one audience share a read.
#[derive(Debug)]
pub(crate) struct GroupSnapshots {
    store: Arc<Store>,
    hub: Arc<Hub>,
    memory: Arc<SnapshotMemory>,
    runtime: Handle,
    reads: Mutex<HashMap<AudienceId, Arc<SharedRead<Arc<Snapshot>>>>>,
}

impl GroupSnapshots {
    /// Returns an idle value. Reads will run on `runtime`.
    pub(crate) fn new(
        store: Arc<Store>,
        hub: Arc<Hub>,
        memory: Arc<SnapshotMemory>,
        runtime: Handle,
    ) -> Self {
        Self {
            store,
            hub,
            memory,
            runtime,
            reads: Mutex::default(),
        }
    }

    /// Returns a snapshot for the streams of an audience, as of a moment after this call.
    pub(crate) async fn ask(
        &self,
        audience: AudienceId,
        interest: &Arc<GroupInterest>,
    ) -> Answer<Arc<Snapshot>> {
        let shared = {
            let mut reads = self.reads.lock();
            if reads.len() == reads.capacity() {
                reads.retain(|_, read| Arc::strong_count(read) > 1);
            }
            let new = || Arc::new(SharedRead::new(self.runtime.clone()));
            Arc::clone(reads.entry(audience).or_insert_with(new))
        };
        let (store, hub) = (Arc::clone(&self.store), Arc::clone(&self.hub));
        let (memory, interest) = (Arc::clone(&self.memory), Arc::clone(interest));
        let read = move || {
            read(
                Arc::clone(&store),
                Arc::clone(&hub),
                Arc::clone(&memory),
                Arc::clone(&interest),
            )
        };
        shared.ask(read).await
    }
}

async fn read(
    store: Arc<Store>,
    hub: Arc<Hub>,
    memory: Arc<SnapshotMemory>,
    interest: Arc<GroupInterest>,
) -> Result<Arc<Snapshot>, StoreError> {
    let states = states(&store, &hub, &interest).await?;
    Ok(memory.encode_groups(states))
}

/// Reads the states of all members, then applies the events that happened meanwhile. So the states are exact as of the
/// newest event that this instance received.
pub(crate) async fn states(
    store: &Store,
    hub: &Hub,
    interest: &GroupInterest,
) -> Result<GroupStates, StoreError> {
    let mut known = KnownUsers::default();
    for _ in 0..ATTEMPTS {
        let mut users = hub.users_of(interest);
        users.retain(|user| !known.contains_key(user));
        for part in users.chunks(CALL_USERS) {
            read_part(store, hub, part, &mut known).await?;
        }
        let states = hub.group_states(interest, &known);
        if let Some(states) = states {
            return Ok(states);
        }
    }
    Err(changed())
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
