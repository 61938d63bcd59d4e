//! What the service knows and does, without HTTP and without Redis.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::model::{Closing, Connected, Disconnected, Page, PageCursor, UserState};
use crate::model::{ConnectionId, UserId};
use crate::store::{Store, StoreError};
use crate::telemetry::{Metrics, PING};

/// How long a readiness check waits for the store.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// Who is online: the calls of the API, each decided by one atomic step of the store.
///
/// Every call fails with [`StoreError`] when the store is out of reach, and is then not known to
/// have happened or not; all may be repeated.
#[derive(Debug)]
pub struct PresenceService {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

impl PresenceService {
    /// A service on `store`.
    pub fn new(store: Arc<Store>, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    /// Opens or refreshes a connection of a user.
    pub async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Connected, StoreError> {
        let touched = self
            .timed("connect", self.store.connect(user, connection))
            .await?;
        self.note_online(touched);
        Ok(touched)
    }

    /// Keeps a connection alive; after an expiry it opens it again.
    pub async fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Result<Connected, StoreError> {
        // Not by `timed`, in which the call would take its room twice.
        let began = Instant::now();
        let touched = self.store.ping(user, connection).await;
        let touched = self.told(PING, began, touched)?;
        self.metrics.pings.inc();
        self.note_online(touched);
        Ok(touched)
    }

    /// Closes connections of a user, who goes offline with the last one.
    pub async fn disconnect(
        &self,
        user: &UserId,
        closing: &Closing,
    ) -> Result<Disconnected, StoreError> {
        let left = self
            .timed("disconnect", self.store.disconnect(user, closing))
            .await?;
        if left.became_offline {
            self.metrics.disconnected();
        }
        Ok(left)
    }

    /// One user; an unknown one is offline.
    pub async fn user(&self, user: &UserId) -> Result<UserState, StoreError> {
        self.timed("user", self.store.user(user)).await
    }

    /// Those of `users` who are online, in the order asked, without repeats.
    pub async fn online_among(&self, users: Vec<UserId>) -> Result<Vec<UserId>, StoreError> {
        let asked = self.store.online_among(&users);
        let online = self.timed("online_among", asked).await?;
        let online = users.into_iter().zip(online);
        let mut online: Vec<_> = online
            .filter_map(|(user, is_online)| is_online.then_some(user))
            .collect();
        let mut seen = HashSet::with_capacity_and_hasher(online.len(), RandomState::default());
        online.retain(|user| seen.insert(user.clone()));
        Ok(online)
    }

    /// At most `limit` online users, from `cursor` on.
    pub async fn online_page(&self, cursor: &PageCursor, limit: usize) -> Result<Page, StoreError> {
        self.timed("online_page", self.store.online_page(cursor, limit))
            .await
    }

    /// How many users are online.
    pub async fn count(&self) -> Result<u64, StoreError> {
        self.timed("count", self.store.count()).await
    }

    /// Whether the store answers now; fails with the reason where it does not.
    pub async fn ready(&self) -> Result<(), StoreError> {
        match tokio::time::timeout(READY_TIMEOUT, self.store.check()).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unreachable("it did not answer in time".into())),
        }
    }

    fn note_online(&self, touched: Connected) {
        if touched.became_online {
            self.metrics.online();
        }
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        self.told(operation, began, call.await)
    }

    /// Counts an answer of the store.
    fn told<T>(
        &self,
        operation: &'static str,
        began: Instant,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match answer {
            Ok(_) | Err(StoreError::Refused(_)) => {
                self.metrics.store_answered(operation, began.elapsed())
            }
            Err(_) => self.metrics.store_failed(operation),
        }
        answer
    }
}
