//! Snapshots of groups.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::events::hub::Hub;
use crate::events::hub::join::EntryRef;
use crate::events::interest::GroupInterest;
use crate::events::shared_read::{Answer, SharedReads};
use crate::events::snapshots::member_states::MemberStates;
use crate::events::snapshots::snapshot::{Snapshot, SnapshotMemory};
use crate::store::Store;

/// Creates the snapshots of streams of groups. Streams with equal interests share a snapshot.
#[derive(Debug)]
pub(crate) struct GroupSnapshots {
    states: Arc<MemberStates>,
    memory: Arc<SnapshotMemory>,
    reads: SharedReads<Arc<GroupInterest>, (Arc<Snapshot>, EntryRef)>,
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
            states: Arc::new(MemberStates::new(store, hub, runtime.clone())),
            memory,
            reads: SharedReads::new(runtime),
        }
    }

    /// Returns a snapshot as of a moment after this call, and the first entry that it does not include. The copies of
    /// the groups are held and complete.
    pub(crate) async fn ask(
        &self,
        interest: &Arc<GroupInterest>,
    ) -> Answer<(Arc<Snapshot>, EntryRef)> {
        let (states, memory) = (Arc::clone(&self.states), Arc::clone(&self.memory));
        let read_interest = Arc::clone(interest);
        let read = move || {
            let (states, memory) = (Arc::clone(&states), Arc::clone(&memory));
            let interest = Arc::clone(&read_interest);
            async move {
                let states = states.read(&interest).await?;
                let end = states.end;
                Ok((memory.encode_groups(states), end))
            }
        };
        self.reads.ask(interest, read).await
    }
}
