//! A read that is shared by those who wait for it.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::store::StoreError;

/// What a read gives.
pub(super) type Answer<T> = Result<T, StoreError>;

/// One read at a time. It serves those who asked before it began, and is given up when none of them
/// waits any more.
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

/// The task that reads. Where it breaks off, those who wait hear of it.
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
    /// Nothing is read yet; what will be is read by tasks of `runtime`.
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

    /// What `read` gives, or an equal one that began after this call.
    pub(super) async fn ask<R>(&self, read: impl Fn() -> R + Send + 'static) -> Answer<T>
    where
        R: Future<Output = Answer<T>> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let was_running = {
            let mut queue = self.queue.lock();
            queue.waiting.push(sender);
            mem::replace(&mut queue.is_running, true)
        };
        if !was_running {
            let queue = Arc::clone(&self.queue);
            let is_done = false;
            self.runtime.spawn(run(Reading { queue, is_done }, read));
        }
        let broke_off = |_| Err(StoreError::Failed("a shared read broke off".to_owned()));
        answer.await.unwrap_or_else(broke_off)
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
                // Under the same lock, so that whoever asks next begins anew.
                queue.is_running = false;
                drop(queue);
                reading.is_done = true;
                return;
            }
            asked
        };
        let answer = tokio::select! {
            answer = read() => answer,
            () = all_gone(&mut asked) => continue,
        };
        for waiting in asked {
            // Who has gone meanwhile needs no answer.
            let _ = waiting.send(answer.clone());
        }
    }
}

async fn all_gone<T>(asked: &mut [oneshot::Sender<Answer<T>>]) {
    for waiting in asked {
        waiting.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;
    use tokio::task::{JoinSet, yield_now};

    use super::*;

    type Reads = Arc<(AtomicU32, Semaphore)>;

    /// Counts the reads, each of which waits for a permit.
    async fn counted(reads: Reads) -> Answer<u32> {
        let number = reads.0.fetch_add(1, Ordering::Relaxed) + 1;
        let permit = reads.1.acquire().await;
        permit.expect("it stays open").forget();
        Ok(number)
    }

    #[tokio::test]
    async fn those_who_ask_during_a_read_share_the_next() {
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
    async fn a_read_is_given_up_when_nobody_waits_for_it() {
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
    async fn who_waits_for_a_read_that_breaks_off_hears_of_it() {
        let shared = SharedRead::<()>::new(Handle::current());
        let answer = shared.ask(|| async { panic!("by mistake") }).await;
        assert!(matches!(answer, Err(StoreError::Failed(_))));
        assert!(shared.ask(|| async { Ok(()) }).await.is_ok());
    }
}
