//! Snapshots of listed users. One call to the store serves many streams.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::events::hub::Hub;
use crate::events::shared_read::Answer;
use crate::events::snapshots::snapshot::{AsOf, Snapshot, SnapshotMemory};
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame::States;
use crate::model::{Announced, Epoch, Partition, Position, UserId};
use crate::store::{Store, StoreError};

/// Users that one call asks about, unless a single list is longer.
const CALL_USERS: usize = 3_000;

/// Concurrent calls to the store.
const CONCURRENT_CALLS: usize = 2;

/// Creates the snapshots of streams with a list of users.
#[derive(Debug)]
pub(crate) struct ListedSnapshots {
    store: Arc<Store>,
    hub: Arc<Hub>,
    memory: Arc<SnapshotMemory>,
    queue: Arc<Mutex<Queue>>,
    runtime: Handle,
}

#[derive(Debug, Default)]
struct Queue {
    requests: VecDeque<Request>,
    running: usize,
}

#[derive(Debug)]
struct Request {
    users: Arc<[UserId]>,
    answer: oneshot::Sender<Answer<Arc<Snapshot>>>,
}

/// A task that calls the store.
struct CallTask {
    queue: Arc<Mutex<Queue>>,
    is_done: bool,
}

impl Drop for CallTask {
    fn drop(&mut self) {
        if !self.is_done {
            self.queue.lock().running -= 1;
        }
    }
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
            queue: Arc::default(),
            runtime,
        }
    }

    /// Returns a snapshot of `users` as of a moment after this call.
    pub(crate) async fn ask(&self, users: &Arc<[UserId]>) -> Answer<Arc<Snapshot>> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            users: Arc::clone(users),
            answer,
        };
        let task = {
            let mut queue = self.queue.lock();
            queue.requests.push_back(request);
            let may_call = queue.running < CONCURRENT_CALLS;
            queue.running += usize::from(may_call);
            may_call.then(|| CallTask {
                queue: Arc::clone(&self.queue),
                is_done: false,
            })
        };
        if let Some(mut task) = task {
            let (store, hub) = (Arc::clone(&self.store), Arc::clone(&self.hub));
            let memory = Arc::clone(&self.memory);
            self.runtime.spawn(async move {
                while let Some(batch) = next_batch(&mut task) {
                    call(&store, &hub, &memory, batch).await;
                }
            });
        }
        let cancelled = |_| Err(StoreError::Failed("a shared read was cancelled".to_owned()));
        answered.await.unwrap_or_else(cancelled)
    }
}

/// Returns the oldest requests, as many as fit in one call. Skips requests whose stream has gone.
fn next_batch(task: &mut CallTask) -> Option<Vec<Request>> {
    let mut queue = task.queue.lock();
    let mut batch: Vec<Request> = Vec::new();
    let mut lists = HashSet::new();
    let mut users = 0;
    while let Some(first) = queue.requests.front() {
        let is_new = !lists.contains(&first.users.as_ptr().addr());
        let more = if is_new { first.users.len() } else { 0 };
        if !batch.is_empty() && users + more > CALL_USERS {
            break;
        }
        lists.insert(first.users.as_ptr().addr());
        users += more;
        let request = queue.requests.pop_front();
        batch.extend(request.filter(|request| !request.answer.is_closed()));
    }
    if batch.is_empty() {
        // The count changes under the same lock, so that the next request starts a new task.
        queue.running -= 1;
        task.is_done = true;
        return None;
    }
    Some(batch)
}

async fn call(store: &Store, hub: &Hub, memory: &SnapshotMemory, batch: Vec<Request>) {
    let mut users: Vec<UserId> = Vec::new();
    let mut lists = HashMap::new();
    for request in &batch {
        if lists.insert(request.users.as_ptr().addr(), None).is_none() {
            users.extend_from_slice(&request.users);
        }
    }
    if lists.len() > 1 {
        users.sort_unstable();
        users.dedup();
    }
    // The positions of the partitions that the call does not read.
    let local = hub.cursor();
    let Announced { at, users, states } = match store.announced_among(&users).await {
        Ok(found) => found,
        Err(error) => {
            for request in batch {
                // The stream may have gone.
                let _ = request.answer.send(Err(error.clone()));
            }
            return;
        }
    };
    let (cursor, at) = (cursor(local, &at), AsOf::from(at));
    let online: HashSet<UserId> = users.into_iter().collect();
    let states: States = states.into_iter().collect();
    for request in batch {
        let snapshot = lists.entry(request.users.as_ptr().addr()).or_insert(None);
        let snapshot = snapshot.get_or_insert_with(|| {
            let among = request.users.iter().filter(|user| online.contains(*user));
            let among: Vec<_> = among.cloned().collect();
            memory.encode(cursor.clone(), Arc::clone(&at), (&among, &states))
        });
        let _ = request.answer.send(Ok(Arc::clone(snapshot)));
    }
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
