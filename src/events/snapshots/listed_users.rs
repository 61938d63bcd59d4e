//! Snapshots of listed users. One call to the store serves many streams.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::events::call_queue::CallQueue;
use crate::events::hub::Hub;
use crate::events::shared_read::Answer;
use crate::events::snapshots::snapshot::{AsOf, Snapshot, SnapshotMemory};
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame::States;
use crate::model::{Announced, Epoch, Partition, Position, UserId};
use crate::store::{Store, StoreError};

/// Creates the snapshots of streams with a list of users.
#[derive(Debug)]
pub(crate) struct ListedSnapshots {
    store: Arc<Store>,
    hub: Arc<Hub>,
    memory: Arc<SnapshotMemory>,
    calls: CallQueue<Arc<[UserId]>, Arc<Snapshot>>,
}

impl ListedSnapshots {
    /// Returns an idle value. Calls will run on `runtime`.
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
            calls: CallQueue::new(runtime),
        }
    }

    /// Returns a snapshot of `users` as of a moment after this call.
    pub(crate) async fn ask(&self, users: &Arc<[UserId]>) -> Answer<Arc<Snapshot>> {
        let (store, hub) = (Arc::clone(&self.store), Arc::clone(&self.hub));
        let memory = Arc::clone(&self.memory);
        let call = move |lists: Vec<_>| {
            let (store, hub) = (Arc::clone(&store), Arc::clone(&hub));
            let memory = Arc::clone(&memory);
            async move {
                match call(&store, &hub, &memory, &lists).await {
                    Ok(snapshots) => snapshots.into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error); lists.len()],
                }
            }
        };
        self.calls.ask(Arc::clone(users), users.len(), call).await
    }
}

/// Returns the snapshot of each list.
async fn call(
    store: &Store,
    hub: &Hub,
    memory: &SnapshotMemory,
    lists: &[Arc<[UserId]>],
) -> Result<Vec<Arc<Snapshot>>, StoreError> {
    let mut users = lists.concat();
    if lists.len() > 1 {
        users.sort_unstable();
        users.dedup();
    }
    // The positions of the partitions that the call does not read.
    let local = hub.cursor();
    let Announced { at, users, states } = store.announced_among(&users).await?;
    let (cursor, at) = (cursor(local, &at), AsOf::from(at));
    let online: HashSet<UserId> = users.into_iter().collect();
    let states: States = states.into_iter().collect();
    let snapshots = lists.iter().map(|list| {
        let among = list.iter().filter(|user| online.contains(*user));
        let among: Vec<_> = among.cloned().collect();
        memory.encode(cursor.clone(), Arc::clone(&at), (&among, &states))
    });
    Ok(snapshots.collect())
}

/// Returns the cursor with the positions that a call read, and with the local positions of the other partitions.
fn cursor(local: Cursor, at: &[(Partition, Epoch, Position)]) -> Cursor {
    match (local, at) {
        (Cursor::One { .. }, [(_, epoch, position), ..]) => Cursor::one(*epoch, *position),
        (Cursor::Many { vector, .. }, at) => {
            let mut positions: Vec<_> = vector.iter().collect();
            for (partition, _, position) in at {
                positions[partition.index()] = *position;
            }
            Cursor::many(positions.into_iter().collect())
        }
        (local, []) => local,
    }
}
