//! A read of the store that several callers share.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::store::StoreError;

/// The result of a shared read.
pub(super) type Answer<T> = Result<T, StoreError>;

/// Runs one read at a time. A read serves all callers that asked before it began. It is cancelled
/// once none of them waits any more.
#[derive(Debug)]
pub(super) struct SharedRead<T> {
    queue: Arc<Mutex<Queue<T>>>,
    runtime: Handle,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: Vec<oneshot::Sender<Answer<T>>>,
    is_running: bool,
}

/// The task that reads. If the task panics, the waiting callers get an error.
struct Reading<T> {
    queue: Arc<Mutex<Queue<T>>>,
    is_done: bool,
}

impl<T> Drop for Reading<T> {
    fn drop(&mut self) {
        if !self.is_done {
            let mut queue = self.queue.lock();
            queue.is_running = false;
            queue.waiting.clear();
        }
    }
}

impl<T: Clone + Send + 'static> SharedRead<T> {
    /// Returns an idle value. Reads will run on `runtime`.
    pub(super) fn new(runtime: Handle) -> Self {
        let queue = Queue {
            waiting: Vec::new(),
            is_running: false,
        };
        Self {
            queue: Arc::new(Mutex::new(queue)),
            runtime,
        }
    }

    /// Returns the result of `read`, or of an equal read that began after this call.
    pub(super) async fn ask<R>(&self, read: impl Fn() -> R + Send + 'static) -> Answer<T>
    where
        R: Future<Output = Answer<T>> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let is_running = {
            let mut queue = self.queue.lock();
            queue.waiting.push(sender);
            mem::replace(&mut queue.is_running, true)
        };
        if !is_running {
            let queue = Arc::clone(&self.queue);
            let is_done = false;
            self.runtime.spawn(run(Reading { queue, is_done }, read));
        }
        let cancelled = |_| Err(StoreError::Failed("a shared read was cancelled".to_owned()));
        answer.await.unwrap_or_else(cancelled)
    }
}

/// Reads about several subjects. The callers that ask about the same subject share a read.
#[derive(Debug)]
pub(super) struct SharedReads<K, T> {
    reads: Reads<K, T>,
    runtime: Handle,
}

type Reads<K, T> = Mutex<HashMap<K, Arc<SharedRead<T>>, RandomState>>;

/// Removes a read after its last caller, also if that caller is cancelled.
struct RemoveUnused<'a, K: Eq + Hash, T> {
    reads: &'a Reads<K, T>,
    subject: &'a K,
}

impl<K: Eq + Hash, T> Drop for RemoveUnused<'_, K, T> {
    fn drop(&mut self) {
        let mut reads = self.reads.lock();
        let is_unused = |read: &Arc<_>| Arc::strong_count(read) == 1;
        if reads.get(self.subject).is_some_and(is_unused) {
            reads.remove(self.subject);
        }
    }
}

impl<K: Clone + Eq + Hash, T: Clone + Send + 'static> SharedReads<K, T> {
    /// Returns an idle value. Reads will run on `runtime`.
    pub(super) fn new(runtime: Handle) -> Self {
        Self {
            reads: Mutex::default(),
            runtime,
        }
    }

    /// Like [`SharedRead::ask`], about one subject.
    pub(super) async fn ask<R>(
        &self,
        subject: &K,
        read: impl Fn() -> R + Send + 'static,
    ) -> Answer<T>
    where
        R: Future<Output = Answer<T>> + Send + 'static,
    {
        // Dropped after the clone of the read.
        let _remove = RemoveUnused {
            reads: &self.reads,
            subject,
        };
        let shared = {
            let mut reads = self.reads.lock();
            let new = || Arc::new(SharedRead::new(self.runtime.clone()));
            Arc::clone(reads.entry(subject.clone()).or_insert_with(new))
        };
        shared.ask(read).await
    }
}

async fn run<T: Clone, R>(mut reading: Reading<T>, read: impl Fn() -> R)
where
    R: Future<Output = Answer<T>>,
{
    loop {
        let mut asked = {
            let mut queue = reading.queue.lock();
            let mut asked = mem::take(&mut queue.waiting);
            asked.retain(|waiting| !waiting.is_closed());
            if asked.is_empty() {
                // The flag changes under the same lock, so that the next caller starts a new task.
                queue.is_running = false;
                drop(queue);
                reading.is_done = true;
                return;
            }
            asked
        };
        let answer = tokio::select! {
            answer = read() => answer,
            () = all_closed(&mut asked) => continue,
        };
        for waiting in asked {
            // The caller may have gone.
            let _ = waiting.send(answer.clone());
        }
    }
}

async fn all_closed<T>(asked: &mut [oneshot::Sender<Answer<T>>]) {
    for waiting in asked {
        waiting.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::FutureExt;
    use tokio::sync::Semaphore;
    use tokio::task::{JoinSet, yield_now};

    use super::*;

    type Reads = Arc<(AtomicU32, Semaphore)>;

    /// Counts the reads. Each read waits for a permit.
    async fn counted(reads: Reads) -> Answer<u32> {
        let number = reads.0.fetch_add(1, Ordering::Relaxed) + 1;
        let permit = reads.1.acquire().await;
        permit.expect("an open semaphore").forget();
        Ok(number)
    }

    #[tokio::test]
    async fn callers_during_a_read_share_the_next_one() {
        let shared = Arc::new(SharedRead::new(Handle::current()));
        let reads: Reads = Arc::new((AtomicU32::new(0), Semaphore::new(0)));
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let (shared, reads) = (Arc::clone(&shared), Arc::clone(&reads));
            asking.spawn(async move { shared.ask(move || counted(Arc::clone(&reads))).await });
            yield_now().await;
        }
        reads.1.add_permits(2);
        let mut answers = asking
            .join_all()
            .await
            .into_iter()
            .map(Result::ok)
            .collect::<Vec<_>>();
        answers.sort_unstable();
        assert_eq!(
            (answers[0], answers[1], answers[19]),
            (Some(1), Some(2), Some(2))
        );
        assert_eq!(reads.0.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_read_without_waiting_callers_is_cancelled() {
        let shared = Arc::new(SharedRead::<()>::new(Handle::current()));
        let held = Arc::new(());
        let asking = {
            let (shared, held) = (Arc::clone(&shared), Arc::clone(&held));
            tokio::spawn(async move {
                let read = move || {
                    let held = Arc::clone(&held);
                    async move {
                        let _held = held;
                        pending().await
                    }
                };
                shared.ask(read).await
            })
        };
        while Arc::strong_count(&held) < 3 {
            yield_now().await;
        }
        asking.abort();
        while Arc::strong_count(&held) > 1 {
            yield_now().await;
        }
        assert!(!shared.queue.lock().is_running);
    }

    #[tokio::test]
    async fn a_panic_of_a_read_is_an_error_for_its_callers() {
        let shared = SharedRead::<()>::new(Handle::current());
        let answer = shared.ask(|| async { panic!("the test panics") }).await;
        assert!(matches!(answer, Err(StoreError::Failed(_))));
        assert!(shared.ask(|| async { Ok(()) }).await.is_ok());
    }

    #[tokio::test]
    async fn the_last_caller_removes_its_read_also_if_it_is_cancelled() {
        let reads = SharedReads::<u64, u64>::new(Handle::current());
        assert_eq!(reads.ask(&1, || async { Ok(2) }).await.ok(), Some(2));
        {
            let never = || pending();
            let mut asking = [&1, &1, &2].map(|subject| Box::pin(reads.ask(subject, never)));
            for asking in &mut asking {
                assert!(asking.now_or_never().is_none());
            }
            assert_eq!(reads.reads.lock().len(), 2);
        }
        assert!(reads.reads.lock().is_empty());
    }
}
