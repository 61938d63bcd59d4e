use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::store::error::StoreError;

/// The maximum number of calls that wait for all servers together. Each takes a few KiB in addition to its client
/// connection.
pub(in crate::store::redis) const MAX_WAITING: usize = 16_384;

/// The maximum number of calls that wait for a silent server, if it has all users.
///
/// A healthy Redis answers within one or two milliseconds, so this is several times the number of calls that an
/// instance has waiting. More calls wait only after a burst, for example after a restart.
pub(in crate::store::redis) const MAX_WAITING_IN_SILENCE: usize = 2_048;

/// How long a server with waiting calls may answer none of them before it counts as silent.
const SILENCE: Duration = Duration::from_millis(250);

/// How long a call may take, with all its round trips. Clients are promised an answer within 2 s, so this leaves
/// 400 ms for the rest.
pub(in crate::store::redis) const CALL_TIMEOUT: Duration = Duration::from_millis(1_600);

/// Limits how many calls wait for a server, and for how long.
#[derive(Debug)]
pub(in crate::store::redis) struct LoadShedder {
    waiting: AtomicUsize,
    /// How many calls wait for all servers.
    waiting_for_all: Arc<AtomicUsize>,
    /// How many calls may wait for this server while it is silent.
    silent_limit: usize,
    /// Counts answers, and calls that found no other call waiting. Reading a clock instead would cost every ping more.
    answers: AtomicU64,
    /// The value of `answers` when a check last found it changed, and the time of that check.
    last_change: Mutex<(u64, Instant)>,
}

/// Waiting calls, which count until this is dropped.
#[derive(Debug)]
pub(in crate::store::redis) struct Waiting<'a> {
    load_shedder: &'a LoadShedder,
    calls: usize,
}

impl Waiting<'_> {
    /// Notes that the server answered.
    pub(in crate::store::redis) fn answered(&self) {
        self.load_shedder.count_answer();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let load_shedder = self.load_shedder;
        for waiting in [&load_shedder.waiting, &*load_shedder.waiting_for_all] {
            waiting.fetch_sub(self.calls, Ordering::Relaxed);
        }
    }
}

impl LoadShedder {
    /// The load shedder of one of several servers, which share the count `waiting_for_all`. At most `silent_limit`
    /// calls wait for the server while it is silent.
    pub(in crate::store::redis) fn new(
        waiting_for_all: &Arc<AtomicUsize>,
        silent_limit: usize,
    ) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            waiting_for_all: Arc::clone(waiting_for_all),
            silent_limit,
            answers: AtomicU64::new(0),
            last_change: Mutex::new((0, Instant::now())),
        }
    }

    /// Runs `call` for at most [`CALL_TIMEOUT`]. Fails at once if too many calls wait already.
    pub(in crate::store::redis) async fn run<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.run_until(Instant::now() + CALL_TIMEOUT, call).await
    }

    /// Runs `call` until `deadline` at most. Fails at once if too many calls wait already.
    pub(in crate::store::redis) async fn run_until<T>(
        &self,
        deadline: Instant,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.check_room(0)?;
        let waiting_call = self.count(1);
        let answer = timeout_at(deadline, call).await;
        let answer = answer.map_err(|_| StoreError::too_slow())?;
        match &answer {
            Err(error) if !error.is_answer() => {}
            _ => waiting_call.answered(),
        }
        answer
    }

    /// Fails if too many calls wait already. `uncounted` calls wait in addition to the counted ones.
    pub(in crate::store::redis) fn check_room(&self, uncounted: usize) -> Result<(), StoreError> {
        let waiting = self.waiting.load(Ordering::Relaxed) + uncounted;
        let waiting_for_all = self.waiting_for_all.load(Ordering::Relaxed) + uncounted;
        let refused =
            waiting_for_all >= MAX_WAITING || waiting >= self.silent_limit && self.is_silent();
        if refused {
            return Err(StoreError::Overloaded);
        }
        Ok(())
    }

    /// Whether calls wait for the server.
    pub(in crate::store::redis) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Counts admitted calls from the time at which they are sent.
    pub(in crate::store::redis) fn count(&self, calls: usize) -> Waiting<'_> {
        self.waiting_for_all.fetch_add(calls, Ordering::Relaxed);
        let waiting = self.waiting.fetch_add(calls, Ordering::Relaxed);
        if waiting == 0 {
            self.count_answer();
        }
        Waiting {
            load_shedder: self,
            calls,
        }
    }

    fn count_answer(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether no check in the last [`SILENCE`] found an answer since the check before.
    fn is_silent(&self) -> bool {
        let answers = self.answers.load(Ordering::Relaxed);
        let mut last_change = self.last_change.lock();
        if last_change.0 != answers {
            *last_change = (answers, Instant::now());
        }
        last_change.1.elapsed() > SILENCE
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::*;

    fn load_shedder() -> LoadShedder {
        LoadShedder::new(&Arc::default(), MAX_WAITING_IN_SILENCE)
    }

    /// Calls that wait until `answer` has a permit for each of them.
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
                load_shedder.run(call).await.is_ok()
            });
        }
        tokio::task::yield_now().await;
        calls
    }

    #[tokio::test]
    async fn a_burst_is_admitted_while_the_store_answers_and_refused_while_it_is_silent() {
        let (load_shedder, answer) = (Arc::new(load_shedder()), Arc::new(Semaphore::new(0)));
        let calls = crowd(&load_shedder, MAX_WAITING_IN_SILENCE + 1, &answer).await;
        while !load_shedder.is_silent() {
            tokio::task::yield_now().await;
        }
        let refused = load_shedder.run(async { Ok(()) }).await;
        assert!(matches!(refused, Err(StoreError::Overloaded)));
        answer.add_permits(1);
        while load_shedder.is_silent() {
            tokio::task::yield_now().await;
        }
        assert!(load_shedder.run(async { Ok(()) }).await.is_ok());
        assert!(calls.join_all().await.into_iter().all(|passed| passed));
    }

    // The clock is paused until all calls have arrived, because a silent store admits fewer.
    #[tokio::test(start_paused = true)]
    async fn calls_beyond_the_maximum_are_refused_until_others_end() {
        let (load_shedder, answer) = (Arc::new(load_shedder()), Arc::new(Semaphore::new(0)));
        let calls = crowd(&load_shedder, MAX_WAITING + 1, &answer).await;
        answer.add_permits(1);
        let passed = calls.join_all().await.into_iter().filter(|passed| *passed);
        assert_eq!(passed.count(), MAX_WAITING);
        assert!(load_shedder.run(async { Ok(()) }).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_leaves_room_for_the_calls_of_the_others() {
        let all = Arc::default();
        let silent = Arc::new(LoadShedder::new(&all, 2));
        let other = LoadShedder::new(&all, 2);
        let calls = crowd(&silent, 2, &Arc::new(Semaphore::new(0))).await;
        silent.is_silent();
        tokio::time::advance(2 * SILENCE).await;
        assert!(matches!(silent.check_room(0), Err(StoreError::Overloaded)));
        assert!(other.run(async { Ok(()) }).await.is_ok());
        assert_eq!(all.load(Ordering::Relaxed), 2);
        drop(calls);
    }
}
