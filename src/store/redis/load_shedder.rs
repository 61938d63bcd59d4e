use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::store::StoreError;

/// How many calls may wait for the store at once, whatever it does. Each holds a few KiB beside
/// the connection it came by.
pub(super) const MOST_WAITING: usize = 16_384;

/// How many calls may wait for a store that has fallen silent.
///
/// A healthy Redis answers within a millisecond or two, so this is several times what one instance
/// asks of it at a time; only a crowd that comes at once, as after a restart, is larger, and that is
/// served as fast as it can be.
const MOST_WAITING_IN_SILENCE: usize = 2_048;

/// How long a store that is being asked may answer nobody before it counts as silent.
const SILENCE: Duration = Duration::from_millis(250);

/// How long a call may take, with all the round trips it makes. Our clients are promised an answer
/// within 2 s, of which this leaves a part for the way there and back.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_millis(1_600);

/// Bounds how many calls wait for the store, and for how long.
#[derive(Debug)]
pub(super) struct LoadShedder {
    waiting: AtomicUsize,
    /// How often the store answered or began to be asked. Reading a clock each time instead would
    /// be a part of every ping's price.
    heard: AtomicU64,
    /// What `heard` was when a crowd last looked and found it changed, and when that was.
    last_change: Mutex<(u64, Instant)>,
}

/// The places of calls that wait, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Places<'a> {
    load_shedder: &'a LoadShedder,
    taken: usize,
}

impl Places<'_> {
    /// The store answered.
    pub(super) fn answered(&self) {
        self.load_shedder.heard();
    }
}

impl Drop for Places<'_> {
    fn drop(&mut self) {
        self.load_shedder
            .waiting
            .fetch_sub(self.taken, Ordering::Relaxed);
    }
}

impl LoadShedder {
    /// Runs `call` for at most [`CALL_TIMEOUT`], or refuses it at once where too many wait already.
    pub(super) async fn pass<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.pass_until(Instant::now() + CALL_TIMEOUT, call).await
    }

    /// Runs `call` until `deadline` at most, or refuses it at once where too many wait already.
    pub(super) async fn pass_until<T>(
        &self,
        deadline: Instant,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.admit_beside(0)?;
        let place = self.take(1);
        let answer = timeout_at(deadline, call).await;
        let answer = answer.map_err(|_| StoreError::too_slow())?;
        if matches!(answer, Ok(_) | Err(StoreError::Refused(_))) {
            place.answered();
        }
        answer
    }

    /// Refuses another call where too many wait already, `others` of whom are not counted yet.
    pub(super) fn admit_beside(&self, others: usize) -> Result<(), StoreError> {
        let waiting = self.waiting.load(Ordering::Relaxed) + others;
        let refused =
            waiting >= MOST_WAITING || waiting >= MOST_WAITING_IN_SILENCE && self.is_silent();
        match refused {
            true => Err(StoreError::Overloaded),
            false => Ok(()),
        }
    }

    /// Counts calls that were admitted, from when the store is asked on.
    pub(super) fn take(&self, calls: usize) -> Places<'_> {
        let waiting = self.waiting.fetch_add(calls, Ordering::Relaxed);
        if waiting == 0 {
            self.heard();
        }
        Places {
            load_shedder: self,
            taken: calls,
        }
    }

    fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether nothing was heard since a crowd looked for the first time, [`SILENCE`] ago or more.
    fn is_silent(&self) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        let mut last_change = self.last_change.lock();
        if last_change.0 != heard {
            *last_change = (heard, Instant::now());
        }
        last_change.1.elapsed() > SILENCE
    }
}

impl Default for LoadShedder {
    fn default() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            heard: AtomicU64::new(0),
            last_change: Mutex::new((0, Instant::now())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::*;

    /// Calls that wait until `answer` has a place for each of them.
    async fn crowd(
        load_shedder: &Arc<LoadShedder>,
        count: usize,
        answer: &Arc<Semaphore>,
    ) -> JoinSet<bool> {
        let mut calls = JoinSet::new();
        for _ in 0..count {
            let (load_shedder, answer) = (Arc::clone(load_shedder), Arc::clone(answer));
            calls.spawn(async move {
                let call = async { Ok(answer.acquire().await.is_ok()) };
                load_shedder.pass(call).await.is_ok()
            });
        }
        tokio::task::yield_now().await;
        calls
    }

    #[tokio::test]
    async fn a_crowd_passes_while_the_store_answers_and_not_in_its_silence() {
        let (load_shedder, answer) = (
            Arc::new(LoadShedder::default()),
            Arc::new(Semaphore::new(0)),
        );
        let calls = crowd(&load_shedder, MOST_WAITING_IN_SILENCE + 1, &answer).await;
        while !load_shedder.is_silent() {
            tokio::task::yield_now().await;
        }
        let refused = load_shedder.pass(async { Ok(()) }).await;
        assert!(matches!(refused, Err(StoreError::Overloaded)));
        answer.add_permits(1);
        while load_shedder.is_silent() {
            tokio::task::yield_now().await;
        }
        assert!(load_shedder.pass(async { Ok(()) }).await.is_ok());
        assert!(calls.join_all().await.into_iter().all(|passed| passed));
    }

    #[tokio::test]
    async fn there_is_no_place_for_more_than_the_most_and_places_are_given_back() {
        let (load_shedder, answer) = (
            Arc::new(LoadShedder::default()),
            Arc::new(Semaphore::new(0)),
        );
        let calls = crowd(&load_shedder, MOST_WAITING + 1, &answer).await;
        answer.add_permits(1);
        let passed = calls.join_all().await.into_iter().filter(|passed| *passed);
        assert_eq!(passed.count(), MOST_WAITING);
        assert!(load_shedder.pass(async { Ok(()) }).await.is_ok());
    }
}
