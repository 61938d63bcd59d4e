//! Who is online of the users that streams chose: few calls for many streams.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::events::shared_read::Answer;
use crate::events::snapshots::snapshot::{Snapshot, SnapshotMemory};
use crate::model::Announced;
use crate::model::UserId;
use crate::store::{Store, StoreError};

/// How many users one call asks about, where more than one list is waiting.
const CALL_USERS: usize = 3_000;

/// How many calls are made at once.
const CALLS: usize = 2;

/// Snapshots of chosen users.
#[derive(Debug)]
pub(crate) struct ListedSnapshots {
    store: Arc<Store>,
    unread: Arc<SnapshotMemory>,
    queue: Arc<Mutex<Queue>>,
    runtime: Handle,
}

#[derive(Debug, Default)]
struct Queue {
    asked: VecDeque<Asked>,
    running: usize,
}

#[derive(Debug)]
struct Asked {
    users: Arc<[UserId]>,
    answer: oneshot::Sender<Answer<Arc<Snapshot>>>,
}

/// One of the tasks that call the store.
struct Calling {
    queue: Arc<Mutex<Queue>>,
    is_done: bool,
}

impl Drop for Calling {
    fn drop(&mut self) {
        if !self.is_done {
            self.queue.lock().running -= 1;
        }
    }
}

impl ListedSnapshots {
    /// Snapshots out of `store`, made by tasks of `runtime`.
    pub(crate) fn new(store: Arc<Store>, unread: Arc<SnapshotMemory>, runtime: Handle) -> Self {
        Self {
            store,
            unread,
            queue: Arc::default(),
            runtime,
        }
    }

    /// A snapshot of `users` that is as of a moment after this call.
    pub(crate) async fn ask(&self, users: &Arc<[UserId]>) -> Answer<Arc<Snapshot>> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            users: Arc::clone(users),
            answer,
        };
        let calling = {
            let mut queue = self.queue.lock();
            queue.asked.push_back(asked);
            let may_call = queue.running < CALLS;
            queue.running += usize::from(may_call);
            may_call.then(|| Calling {
                queue: Arc::clone(&self.queue),
                is_done: false,
            })
        };
        if let Some(mut calling) = calling {
            let (store, unread) = (Arc::clone(&self.store), Arc::clone(&self.unread));
            self.runtime.spawn(async move {
                while let Some(batch) = next_batch(&mut calling) {
                    call(&store, &unread, batch).await;
                }
            });
        }
        let broke_off = |_| Err(StoreError::Failed("a shared read broke off".to_owned()));
        answered.await.unwrap_or_else(broke_off)
    }
}

/// Those who waited longest, as many as one call takes; nobody who has gone meanwhile.
fn next_batch(calling: &mut Calling) -> Option<Vec<Asked>> {
    let mut queue = calling.queue.lock();
    let mut batch: Vec<Asked> = Vec::new();
    let mut lists = HashSet::new();
    let mut users = 0;
    while let Some(first) = queue.asked.front() {
        let is_new = !lists.contains(&first.users.as_ptr().addr());
        let more = if is_new { first.users.len() } else { 0 };
        if !batch.is_empty() && users + more > CALL_USERS {
            break;
        }
        lists.insert(first.users.as_ptr().addr());
        users += more;
        let asked = queue.asked.pop_front();
        batch.extend(asked.filter(|asked| !asked.answer.is_closed()));
    }
    if batch.is_empty() {
        // Under the same lock, so that whoever asks next makes the call.
        queue.running -= 1;
        calling.is_done = true;
        return None;
    }
    Some(batch)
}

async fn call(store: &Store, unread: &SnapshotMemory, batch: Vec<Asked>) {
    let mut users: Vec<UserId> = Vec::new();
    let mut lists = HashMap::new();
    for asked in &batch {
        if lists.insert(asked.users.as_ptr().addr(), None).is_none() {
            users.extend_from_slice(&asked.users);
        }
    }
    if lists.len() > 1 {
        users.sort_unstable();
        users.dedup();
    }
    let found = match store.announced_among(&users).await {
        Ok(found) => found,
        Err(error) => {
            for asked in batch {
                // Who has gone meanwhile needs no answer.
                let _ = asked.answer.send(Err(error.clone()));
            }
            return;
        }
    };
    let Announced {
        epoch,
        position,
        users,
    } = found;
    let online: HashSet<UserId> = users.into_iter().collect();
    for asked in batch {
        let snapshot = lists.entry(asked.users.as_ptr().addr()).or_insert(None);
        let snapshot = snapshot.get_or_insert_with(|| {
            let among = asked.users.iter().filter(|user| online.contains(*user));
            let among: Vec<_> = among.cloned().collect();
            unread.write(epoch, position, &among)
        });
        let _ = asked.answer.send(Ok(Arc::clone(snapshot)));
    }
}
