//! Reads the members of watched groups from the store.

use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::runtime::Handle;

use super::hub::Hub;
use super::hub::copies::CopyId;
use super::shared_read::SharedReads;
use crate::model::GroupId;
use crate::store::{Members, Store, StoreError};

/// Maximum number of reads of the members of a group. Another read is needed if events were lost meanwhile.
const ATTEMPTS: usize = 5;

/// Maximum number of groups of one stream that are read at once.
const READ_AT_ONCE: usize = 4;

/// Fills the copies of watched groups. Each copy is read once, however many streams wait for it.
#[derive(Debug)]
pub(super) struct CopyFiller {
    store: Arc<Store>,
    hub: Arc<Hub>,
    reads: SharedReads<GroupId, ()>,
}

/// Copies that stay until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    hub: Arc<Hub>,
    copies: Vec<CopyId>,
}

impl Drop for Held {
    fn drop(&mut self) {
        for copy in self.copies.drain(..) {
            self.hub.unpin(copy);
        }
    }
}

impl CopyFiller {
    /// Returns an idle value. Reads will run on `runtime`.
    pub(super) fn new(store: Arc<Store>, hub: Arc<Hub>, runtime: Handle) -> Self {
        Self {
            store,
            hub,
            reads: SharedReads::new(runtime),
        }
    }

    /// Returns complete copies of these groups.
    pub(super) async fn hold(&self, groups: &[GroupId]) -> Result<Held, StoreError> {
        let held = Held {
            hub: Arc::clone(&self.hub),
            copies: groups.iter().map(|group| self.hub.pin(group)).collect(),
        };
        self.complete(groups).await?;
        Ok(held)
    }

    /// Completes the copies of these groups, which are held or watched. Fails if the instance has no room for more
    /// members.
    pub(super) async fn complete(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        let incomplete = groups
            .iter()
            .filter(|group| self.hub.incomplete(group).is_some());
        let incomplete: Vec<_> = incomplete.collect();
        for part in incomplete.chunks(READ_AT_ONCE) {
            if !self.hub.has_room_for_members() {
                return Err(StoreError::Overloaded);
            }
            try_join_all(part.iter().map(|group| self.complete_one(group))).await?;
        }
        Ok(())
    }

    async fn complete_one(&self, group: &GroupId) -> Result<(), StoreError> {
        let (store, hub) = (Arc::clone(&self.store), Arc::clone(&self.hub));
        let read_group = group.clone();
        let read_one = move || read(Arc::clone(&store), Arc::clone(&hub), read_group.clone());
        self.reads.ask(group, read_one).await
    }
}

/// Completes the copy of a group, unless it is complete.
async fn read(store: Arc<Store>, hub: Arc<Hub>, group: GroupId) -> Result<(), StoreError> {
    let partition = hub.partitions().of_group(&group);
    for _ in 0..ATTEMPTS {
        let Some(incomplete) = hub.incomplete(&group) else {
            return Ok(());
        };
        let members = store.group_members(&group, Members::Announced).await?;
        let (epoch, newest) = store.newest_of(partition).await?;
        let has_received = |hub: &Hub| {
            let received = hub.newest(partition);
            received.is_some_and(|(known, received)| known != epoch || received >= newest)
        };
        if !hub.catches_up(has_received).await {
            return Err(late());
        }
        hub.fill_copy(incomplete, members);
    }
    Err(late())
}

fn late() -> StoreError {
    StoreError::Unreachable("the history changed while the members of a group were read".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::events::limits::Limits;
    use crate::memory_budget::MemoryBudget;
    use crate::model::Partitions;
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn groups_without_members_take_memory() {
        let config = Config::default();
        let mut limits = Limits::of(&config, MemoryBudget::of(1 << 30));
        limits.watched_users = 100;
        let store = Arc::new(Store::open(&config).expect("a store in memory"));
        let hub = Arc::new(Hub::new(Arc::new(Metrics::new()), limits, Partitions::ONE));
        let filler = CopyFiller::new(store, Arc::clone(&hub), Handle::current());
        let groups = (0..50).map(|number| GroupId::new(&format!("group-{number}")));
        let groups: Vec<_> = groups.collect::<Result<_, _>>().expect("good ids");
        let held = filler.hold(&groups).await;
        assert!(matches!(held, Err(StoreError::Overloaded)), "{held:?}");
        assert!(hub.has_room_for_members(), "nothing is held any more");
    }
}
