//! The calls of the API, independent of HTTP and of the kind of store.

mod groups;
mod moving;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::Instant;

pub(crate) use self::moving::{Answering, MoveProgress, OtherStore, Phase};
use crate::model::{
    Closing, Connected, Disconnected, Page, PageCursor, PartitionSet, Partitions, State, Stated,
    Status, UserState,
};
use crate::model::{ConnectionId, Timestamp, UserId};
use crate::store::{NodeId, Readiness, Store, StoreError};
use crate::telemetry::Metrics;

/// The calls of the API. One atomic step of the store decides each of them.
///
/// A call fails with [`StoreError`] if the store cannot be reached. Then it is unknown whether the call took effect.
/// Every call may be repeated.
#[derive(Debug)]
pub(crate) struct PresenceService {
    store: Arc<Store>,
    /// The other store of a move, which is written too.
    other: Option<Arc<OtherStore>>,
    metrics: Arc<Metrics>,
}

/// What the sweeps of one call did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SweptAll {
    /// The number of announced departures.
    pub(crate) announced: usize,
    /// When the first held departure can be announced.
    pub(crate) held_until: Option<Timestamp>,
}

impl PresenceService {
    /// A service that keeps its state in `store`.
    pub(crate) fn new(store: Arc<Store>, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            other: None,
            metrics,
        }
    }

    /// This service, which from now on also writes to `other`.
    pub(crate) fn with_other_store(self, other: OtherStore) -> Self {
        Self {
            other: Some(Arc::new(other)),
            ..self
        }
    }

    /// Sweeps all partitions until no user is due.
    pub(crate) async fn sweep_all(&self) -> Result<SweptAll, StoreError> {
        let nodes = self.store.nodes().borrow().clone();
        let sweeps = nodes.iter().map(|node| self.sweep_node(*node));
        let announced = join_all(sweeps).await.into_iter();
        Ok(SweptAll {
            announced: announced.sum::<Result<usize, _>>()?,
            held_until: self.store.held_until().await?,
        })
    }

    /// Sweeps the partitions on one server until no user is due. Returns the number of announced departures.
    async fn sweep_node(&self, node: NodeId) -> Result<usize, StoreError> {
        let mut announced = 0;
        let mut due = PartitionSet::all(self.store.partitions());
        while !due.is_empty() {
            let all = self.timed("sweep", self.store.sweep(node, due)).await?;
            due = PartitionSet::default();
            for swept in all {
                announced += swept.lateness_ms.len();
                self.metrics
                    .swept(swept.now, swept.left, &swept.lateness_ms);
                let swept = swept.finished()?;
                if swept.more {
                    due.insert(swept.partition);
                }
            }
        }
        Ok(announced)
    }

    /// Opens or refreshes a connection of a user.
    pub(crate) async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<Connected, StoreError> {
        let connected = match &self.other {
            None => {
                self.timed("connect", self.store.connect(user, connection, stated))
                    .await?
            }
            Some(other) => {
                let call = |store: Arc<Store>| {
                    let (user, connection, stated) =
                        (user.clone(), connection.clone(), stated.clone());
                    async move { store.connect(&user, &connection, &stated).await }.boxed()
                };
                let call = other.together(&self.store, call);
                Box::pin(self.timed("connect", call)).await?
            }
        };
        self.note_online(&connected);
        Ok(connected)
    }

    /// Extends a connection by its TTL. Opens a connection that does not exist.
    pub(crate) async fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<Connected, StoreError> {
        // `timed` is not used here, because its future would contain the future of the call twice.
        let began = Instant::now();
        let connected = match &self.other {
            None => self.store.ping(user, connection, stated).await,
            Some(other) => Box::pin(self.ping_both(other, user, connection, stated)).await,
        };
        let connected = self.record("ping", began, connected)?;
        self.metrics.pings.inc();
        self.note_online(&connected);
        Ok(connected)
    }

    /// A ping during a move.
    async fn ping_both(
        &self,
        other: &Arc<OtherStore>,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<Connected, StoreError> {
        let call = |store: Arc<Store>| {
            let (user, connection, stated) = (user.clone(), connection.clone(), stated.clone());
            async move { store.ping(&user, &connection, &stated).await }.boxed()
        };
        other.together(&self.store, call).await
    }

    /// Closes connections of a user. The user goes offline with the last one.
    pub(crate) async fn disconnect(
        &self,
        user: &UserId,
        closing: &Closing,
    ) -> Result<Disconnected, StoreError> {
        let disconnected = match &self.other {
            None => {
                self.timed("disconnect", self.store.disconnect(user, closing))
                    .await?
            }
            Some(other) => {
                let call = |store: Arc<Store>| {
                    let (user, closing) = (user.clone(), closing.clone());
                    async move { store.disconnect(&user, &closing).await }.boxed()
                };
                let call = other.together(&self.store, call);
                Box::pin(self.timed("disconnect", call)).await?
            }
        };
        if disconnected.became_offline {
            self.metrics.disconnected();
        }
        Ok(disconnected)
    }

    /// The state of a user. An unknown user is offline.
    pub(crate) async fn user(&self, user: &UserId) -> Result<UserState, StoreError> {
        let mut state = self.timed("user", self.store.user(user)).await?;
        if let Some(other) = &self.other
            && state.last_seen_at.is_none()
        {
            state.last_seen_at = other.last_seen(user).await;
        }
        Ok(state)
    }

    /// The online users among `users`, in the same order, without duplicates.
    pub(crate) async fn online_among(&self, users: Vec<UserId>) -> Result<Vec<UserId>, StoreError> {
        let call = self.store.online_among(&users);
        let online = self.timed("online_among", call).await?;
        let online = users.into_iter().zip(online);
        let mut online: Vec<_> = online
            .filter_map(|(user, is_online)| is_online.then_some(user))
            .collect();
        let mut seen = HashSet::with_capacity_and_hasher(online.len(), RandomState::default());
        online.retain(|user| seen.insert(user.clone()));
        Ok(online)
    }

    /// The state of each of `users` that has one. The users are online.
    pub(crate) async fn states_among(
        &self,
        users: &[UserId],
    ) -> Result<Vec<(UserId, Arc<State>)>, StoreError> {
        let call = self.store.states_among(users);
        let states = self.timed("states_among", call).await?;
        let states = users.iter().zip(states);
        Ok(states
            .filter_map(|(user, state)| Some((user.clone(), state?)))
            .collect())
    }

    /// Sets or clears the status of a user. Returns when it ends.
    pub(crate) async fn set_status(
        &self,
        user: &UserId,
        status: Option<&Status>,
        lasts: Option<Duration>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let Some(other) = &self.other else {
            let call = self.store.set_status(user, status, lasts);
            return self.timed("set_status", call).await;
        };
        let call = |store: Arc<Store>| {
            let (user, status) = (user.clone(), status.cloned());
            async move { store.set_status(&user, status.as_ref(), lasts).await }.boxed()
        };
        let call = other.one_after_the_other(&self.store, call);
        self.timed("set_status", call).await
    }

    /// At most `limit` online users, from `cursor` on.
    pub(crate) async fn online_page(
        &self,
        cursor: &PageCursor,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.timed("online_page", self.store.online_page(cursor, limit))
            .await
    }

    /// The number of online users.
    pub(crate) async fn count(&self) -> Result<u64, StoreError> {
        self.timed("count", self.store.count()).await
    }

    /// How the users are divided.
    pub(crate) fn partitions(&self) -> Partitions {
        self.store.partitions()
    }

    /// Whether the store accepts writes now.
    pub(crate) async fn readiness(&self) -> Readiness {
        match (self.store.check().await, &self.other) {
            (Readiness::Ready, Some(other)) => Readiness::ReadyWithReason(other.progress().text()),
            (readiness, _) => readiness,
        }
    }

    fn note_online(&self, connected: &Connected) {
        if connected.became_online {
            self.metrics.online();
        }
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        self.record(operation, began, call.await)
    }

    /// Records the outcome of a call in the metrics.
    fn record<T>(
        &self,
        operation: &'static str,
        began: Instant,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &answer {
            Err(error) if !error.is_answer() => self.metrics.store_failed(operation),
            _ => self.metrics.store_answered(operation, began.elapsed()),
        }
        answer
    }
}
