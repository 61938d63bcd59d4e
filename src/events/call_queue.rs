//! Calls to the store about many users. One call serves many callers.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::shared_read::Answer;
use crate::store::StoreError;

/// Users that one call asks about, unless a single key has more.
pub(super) const CALL_USERS: usize = 3_000;

/// Concurrent calls of one queue.
const CONCURRENT_CALLS: usize = 2;

/// Keys that wait for a call. Callers with equal keys share an answer.
#[derive(Debug)]
pub(super) struct CallQueue<K, T> {
    queue: Arc<Mutex<Queue<K, T>>>,
    runtime: Handle,
}

#[derive(Debug)]
struct Queue<K, T> {
    /// From the oldest to the newest.
    order: VecDeque<K>,
    waiting: HashMap<K, Waiting<T>, RandomState>,
    running: usize,
}

/// The callers with one key.
#[derive(Debug)]
struct Waiting<T> {
    users: usize,
    callers: Vec<oneshot::Sender<Answer<T>>>,
}

/// A task that calls the store. If all tasks panic, the callers that wait get an error.
struct CallTask<K, T> {
    queue: Arc<Mutex<Queue<K, T>>>,
    is_done: bool,
}

impl<K, T> Drop for CallTask<K, T> {
    fn drop(&mut self) {
        if !self.is_done {
            let mut queue = self.queue.lock();
            queue.running -= 1;
            if queue.running == 0 {
                queue.order.clear();
                queue.waiting.clear();
            }
        }
    }
}

impl<K, T> CallQueue<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + 'static,
{
    /// Returns an empty queue. Calls will run on `runtime`.
    pub(super) fn new(runtime: Handle) -> Self {
        let queue = Queue {
            order: VecDeque::new(),
            waiting: HashMap::default(),
            running: 0,
        };
        Self {
            queue: Arc::new(Mutex::new(queue)),
            runtime,
        }
    }

    /// Returns the answer to a key, which has about this number of users. `call` returns the answers to some keys, in
    /// their order; it, or an equal function of another caller, is called after this call.
    pub(super) async fn ask<C, R>(&self, key: K, users: usize, call: C) -> Answer<T>
    where
        C: Fn(Vec<K>) -> R + Send + Sync + 'static,
        R: Future<Output = Vec<Answer<T>>> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        if let Some(task) = self.add(key, users, sender) {
            self.runtime.spawn(run(task, call));
        }
        let cancelled = |_| Err(StoreError::Failed("a shared call was cancelled".to_owned()));
        answer.await.unwrap_or_else(cancelled)
    }

    /// Adds a caller. Returns a task to run if another call may run.
    fn add(
        &self,
        key: K,
        users: usize,
        caller: oneshot::Sender<Answer<T>>,
    ) -> Option<CallTask<K, T>> {
        let mut queue = self.queue.lock();
        match queue.waiting.get_mut(&key) {
            Some(waiting) => waiting.callers.push(caller),
            None => {
                queue.order.push_back(key.clone());
                let callers = vec![caller];
                queue.waiting.insert(key, Waiting { users, callers });
            }
        }
        let may_call = queue.running < CONCURRENT_CALLS;
        queue.running += usize::from(may_call);
        may_call.then(|| CallTask {
            queue: Arc::clone(&self.queue),
            is_done: false,
        })
    }
}

async fn run<K, T, C, R>(mut task: CallTask<K, T>, call: C)
where
    K: Clone + Eq + Hash,
    T: Clone,
    C: Fn(Vec<K>) -> R,
    R: Future<Output = Vec<Answer<T>>>,
{
    while let Some((keys, callers)) = next_batch(&mut task) {
        let answers = call(keys).await;
        for (callers, answer) in callers.into_iter().zip(answers) {
            for caller in callers {
                // The caller may have gone.
                let _ = caller.send(answer.clone());
            }
        }
    }
}

/// Some keys, and the callers with each.
type Batch<K, T> = (Vec<K>, Vec<Vec<oneshot::Sender<Answer<T>>>>);

/// Returns the oldest keys, as many as fit in one call. Skips keys whose callers have gone.
fn next_batch<K: Clone + Eq + Hash, T>(task: &mut CallTask<K, T>) -> Option<Batch<K, T>> {
    let mut queue = task.queue.lock();
    let (mut keys, mut callers) = (Vec::new(), Vec::new());
    let mut users = 0;
    while let Some(key) = queue.order.pop_front() {
        let Some(mut waiting) = queue.waiting.remove(&key) else {
            continue;
        };
        waiting.callers.retain(|caller| !caller.is_closed());
        if waiting.callers.is_empty() {
            continue;
        }
        if !keys.is_empty() && users + waiting.users > CALL_USERS {
            queue.order.push_front(key.clone());
            queue.waiting.insert(key, waiting);
            break;
        }
        users += waiting.users;
        keys.push(key);
        callers.push(waiting.callers);
    }
    if keys.is_empty() {
        // The count changes under the same lock, so that the next caller starts a new task.
        queue.running -= 1;
        drop(queue);
        task.is_done = true;
        return None;
    }
    Some((keys, callers))
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn callers_with_equal_keys_share_a_call_and_calls_are_bounded() {
        let queue = CallQueue::<u64, u64>::new(Handle::current());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let asked = (0..400).map(|caller| {
            let calls = Arc::clone(&calls);
            let call = move |keys: Vec<u64>| {
                let calls = Arc::clone(&calls);
                async move {
                    calls.lock().push(keys.len());
                    tokio::task::yield_now().await;
                    keys.into_iter().map(|key| Ok(key * 2)).collect()
                }
            };
            queue.ask(caller % 10, CALL_USERS / 2, call)
        });
        let answers = join_all(asked).await;
        for (caller, answer) in (0..400).zip(answers) {
            assert_eq!(answer.expect("an answer"), caller % 10 * 2);
        }
        // All have asked before the first call begins.
        assert_eq!(*calls.lock(), [2; 5]);
        assert_eq!(queue.queue.lock().running, 0);
    }

    #[tokio::test]
    async fn a_failure_reaches_the_callers_of_its_key_only() {
        let queue = CallQueue::<u64, u64>::new(Handle::current());
        let call = |keys: Vec<u64>| async move {
            let answers = keys.into_iter().map(|key| match key {
                0 => Err(StoreError::Overloaded),
                _ => Ok(key),
            });
            answers.collect()
        };
        let asked = (0..4).map(|caller| queue.ask(caller % 2, 1, call));
        let failed = join_all(asked).await.into_iter();
        let failed = failed.map(|answer| answer.is_err());
        assert_eq!(failed.collect::<Vec<_>>(), [true, false, true, false]);
    }

    #[tokio::test]
    async fn no_caller_waits_for_ever_if_the_calls_panic() {
        let queue = CallQueue::<u64, u64>::new(Handle::current());
        let call = |_| async { panic!("the test panics") };
        let asked = (0..4).map(|key| queue.ask(key, CALL_USERS, call));
        let answers = join_all(asked).await;
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        assert_eq!(queue.queue.lock().running, 0);
        let answer = queue.ask(7, 1, |keys| async { keys.into_iter().map(Ok).collect() });
        assert_eq!(answer.await.ok(), Some(7));
    }
}
