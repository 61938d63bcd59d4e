//! A move to another store: both stores are written, and one of them answers.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, join};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::model::{Timestamp, UserId};
use crate::store::{Store, StoreError};

/// How long a call waits for the other store of a move, whose answer is not returned.
const TIMEOUT: Duration = Duration::from_millis(500);

/// After a write that did not reach the other store, one call in this time tries again. So a store that does not answer
/// delays one call a second.
const PAUSE: Duration = Duration::from_secs(1);

/// A call to a store.
type StoreCall<T> = BoxFuture<'static, Result<T, StoreError>>;

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Both stores are written, and the former one answers.
    Filling,
    /// Both stores are written, because other instances may still read the former one. The next one answers.
    Moved,
    /// Only the next store is written.
    Done,
}

/// What the parts of an instance know of its move.
#[derive(Debug)]
pub(crate) struct MoveProgress {
    phase: watch::Sender<Phase>,
    /// Writes that did not reach the next store.
    missed: AtomicU64,
    /// How far the move is, in words for operators.
    text: Mutex<String>,
}

impl Default for MoveProgress {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Filling),
            missed: AtomicU64::new(0),
            text: Mutex::new("a move to the next store begins".to_owned()),
        }
    }
}

impl MoveProgress {
    /// The phase of the move.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether the next store answers.
    pub(crate) fn has_moved(&self) -> bool {
        self.phase() >= Phase::Moved
    }

    /// Begins a phase.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Waits until the move has reached `phase`.
    pub(crate) async fn reached(&self, phase: Phase) {
        // An error means that the sender is gone, but the sender is a field.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Writes that did not reach the next store since the start.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// How far the move is, for operators.
    pub(crate) fn text(&self) -> String {
        self.text.lock().clone()
    }

    /// Replaces the text for operators.
    pub(crate) fn describe(&self, text: String) {
        *self.text.lock() = text;
    }
}

/// Whether a store answers the calls of this instance. By default, it is the only store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answering {
    progress: Option<Arc<MoveProgress>>,
    is_next: bool,
}

impl Answering {
    /// The former store of a move.
    pub(crate) fn former(progress: &Arc<MoveProgress>) -> Self {
        Self {
            progress: Some(Arc::clone(progress)),
            is_next: false,
        }
    }

    /// The next store of a move.
    pub(crate) fn next(progress: &Arc<MoveProgress>) -> Self {
        Self {
            is_next: true,
            ..Self::former(progress)
        }
    }

    /// Whether the store answers now.
    pub(crate) fn answers_now(&self) -> bool {
        let progress = self.progress.as_ref();
        progress.is_none_or(|progress| progress.has_moved() == self.is_next)
    }

    /// Waits until the store is not used any more.
    pub(crate) async fn ended(&self) {
        match &self.progress {
            Some(progress) if !self.is_next => progress.reached(Phase::Done).await,
            _ => pending().await,
        }
    }
}

/// The store that a call also writes during a move. Its answer is not returned.
#[derive(Debug)]
pub(crate) struct OtherStore {
    store: Arc<Store>,
    is_next: bool,
    progress: Arc<MoveProgress>,
    /// When the next call tries to write again; `None` while writes succeed.
    tries_at: Mutex<Option<Instant>>,
}

impl OtherStore {
    /// The next store, beside the former one.
    pub(crate) fn next(store: Arc<Store>, progress: Arc<MoveProgress>) -> Self {
        Self {
            store,
            is_next: true,
            progress,
            tries_at: Mutex::default(),
        }
    }

    /// The former store, beside the next one.
    pub(crate) fn former(store: Arc<Store>, progress: Arc<MoveProgress>) -> Self {
        Self {
            is_next: false,
            ..Self::next(store, progress)
        }
    }

    /// How far the move is.
    pub(super) fn progress(&self) -> &MoveProgress {
        &self.progress
    }

    /// Makes a call to both stores at the same time, and returns the answer of `answering`. A client that goes away
    /// meanwhile stops neither.
    pub(super) async fn together<T: Send + 'static>(
        self: &Arc<Self>,
        answering: &Arc<Store>,
        call: impl Fn(Arc<Store>) -> StoreCall<T>,
    ) -> Result<T, StoreError> {
        let at_once =
            |this: Arc<Self>, answer, other| async move { join(answer, this.write(other)).await.0 };
        self.both(answering, call, at_once).await
    }

    /// Makes a call to `answering` and then to the other store. A copy writes to the next store and then reads the
    /// former one again. Therefore the copy finds the change, or the call writes after it.
    pub(super) async fn one_after_the_other<T: Send + 'static>(
        self: &Arc<Self>,
        answering: &Arc<Store>,
        call: impl Fn(Arc<Store>) -> StoreCall<T>,
    ) -> Result<T, StoreError> {
        let in_turn = |this: Arc<Self>, answer: StoreCall<T>, other| async move {
            let answer = answer.await;
            match &answer {
                Ok(_) => this.write(other).await,
                Err(error) if error.is_answer() => {}
                // The call may have taken effect.
                Err(_) => this.note_missed(),
            }
            answer
        };
        self.both(answering, call, in_turn).await
    }

    /// Makes a call to both stores as `make` does with the call to `answering` and the one to the other store. After
    /// the move, only `answering` gets the call.
    async fn both<T: Send + 'static, F>(
        self: &Arc<Self>,
        answering: &Arc<Store>,
        call: impl Fn(Arc<Store>) -> StoreCall<T>,
        make: impl FnOnce(Arc<Self>, StoreCall<T>, StoreCall<T>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let answer = call(Arc::clone(answering));
        if self.progress.phase() == Phase::Done {
            return answer.await;
        }
        let other = call(Arc::clone(&self.store));
        let both = tokio::spawn(make(Arc::clone(self), answer, other));
        both.await.unwrap_or_else(|error| Err(not_made(error)))
    }

    /// When a user was last seen, if the next store does not know it and the former one does: those times are not
    /// copied.
    pub(super) async fn last_seen(&self, user: &UserId) -> Option<Timestamp> {
        if self.is_next {
            return None;
        }
        let known = timeout(TIMEOUT, self.store.user(user)).await;
        known.ok()?.ok()?.last_seen_at
    }

    async fn write<T>(&self, call: impl Future<Output = Result<T, StoreError>>) {
        if !self.is_tried() {
            self.note_missed();
            return;
        }
        match timeout(TIMEOUT, call).await {
            Ok(Ok(_) | Err(StoreError::Refused(_))) => *self.tries_at.lock() = None,
            // The store that answers accepted the write of a group.
            Ok(Err(error)) if error.is_answer() => self.note_missed(),
            Ok(Err(_)) | Err(_) => {
                *self.tries_at.lock() = Some(Instant::now() + PAUSE);
                self.note_missed();
            }
        }
    }

    /// Whether this call may try. While writes fail, one call in each pause may.
    fn is_tried(&self) -> bool {
        let now = Instant::now();
        let mut tries_at = self.tries_at.lock();
        match *tries_at {
            Some(at) if at > now => false,
            Some(_) => {
                *tries_at = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    fn note_missed(&self) {
        if self.is_next {
            self.progress.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn not_made(error: tokio::task::JoinError) -> StoreError {
    StoreError::Unreachable(format!("the call ended early: {error}"))
}
