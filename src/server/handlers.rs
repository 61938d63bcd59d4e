//! What the handlers and the webhooks of an instance use: the present store and, during a move, the next one.

use std::future::pending;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::side::{Side, supervise};
use super::{Server, WEBHOOKS};
use crate::http::{AppState, BulkCalls, Front, fronts, metrics_front};
use crate::net::WorkerThreads;
use crate::presence::{OtherStore, Phase, PresenceService};
use crate::store::Store;

impl Server {
    /// The fronts of the workers. During a move, each has the handlers of both stores.
    pub(super) fn served(
        &self,
        threads: &WorkerThreads,
        tasks: &mut JoinSet<&'static str>,
    ) -> Vec<Front> {
        let mut stores_on = |runtime: &Handle| {
            let stores = self.sides().map(|side| {
                let store = Arc::new(side.store.with_own_connection());
                tasks.spawn_on(supervise(Arc::clone(&store)), runtime);
                store
            });
            stores.collect::<Vec<_>>()
        };
        let stores: Vec<_> = threads.workers.iter().map(&mut stores_on).collect();
        let bulk_stores = stores_on(&threads.bulk);
        let fronts_of = |side: &Side, place: usize| {
            let state = |stores: &Vec<Arc<Store>>| self.state(side, self.presence(stores, place));
            let bulk = BulkCalls::new(threads.bulk.clone(), state(&bulk_stores));
            fronts(&self.config, &bulk, stores.iter().map(state))
        };
        let present = fronts_of(&self.side, 0);
        let Some(next) = &self.next else {
            return present;
        };
        let both = present.into_iter().zip(fronts_of(&next.side, 1));
        both.map(|(present, front)| present.with_next(front, &next.progress))
            .collect()
    }

    /// The calls, which the store at `place` answers. During a move, the other one is written too.
    fn presence(&self, stores: &[Arc<Store>], place: usize) -> PresenceService {
        let presence = PresenceService::new(Arc::clone(&stores[place]), Arc::clone(&self.metrics));
        match (&self.next, stores) {
            (Some(next), [former, target]) => presence.with_other_store(match place {
                0 => OtherStore::next(Arc::clone(target), Arc::clone(&next.progress)),
                _ => OtherStore::former(Arc::clone(former), Arc::clone(&next.progress)),
            }),
            _ => presence,
        }
    }

    /// The state of handlers on the main runtime, which the present store answers.
    pub(super) fn main_state(&self) -> AppState {
        self.main_state_of(&self.side, 0)
    }

    /// The front of the listener of the metrics.
    pub(super) fn metrics_front(&self) -> Front {
        let front = metrics_front(self.main_state());
        match &self.next {
            Some(next) => {
                let moved = metrics_front(self.main_state_of(&next.side, 1));
                front.with_next(moved, &next.progress)
            }
            None => front,
        }
    }

    fn main_state_of(&self, side: &Side, place: usize) -> AppState {
        let stores: Vec<_> = self.sides().map(|side| Arc::clone(&side.store)).collect();
        self.state(side, self.presence(&stores, place))
    }

    /// The state of the handlers, which use `presence` for calls about one user.
    pub(super) fn state(&self, side: &Side, presence: PresenceService) -> AppState {
        AppState {
            presence: Arc::new(presence),
            streams: Arc::clone(&side.streams),
            webhooks: Arc::clone(&side.webhooks),
            registration: Arc::clone(&side.registration),
            admission: Arc::clone(&self.admission),
            metrics: Arc::clone(&self.metrics),
            config: Arc::clone(&self.config),
            authenticator: Arc::clone(&self.authenticator),
        }
    }

    /// Sends the webhooks until the drain. After a move, the events of the next store are sent.
    pub(super) fn deliver(
        &self,
        drain: CancellationToken,
    ) -> impl Future<Output = &'static str> + use<> {
        let webhooks = Arc::clone(&self.side.webhooks);
        let next = self.next.as_ref();
        let next = next.map(|next| (Arc::clone(&next.side.webhooks), Arc::clone(&next.progress)));
        async move {
            let Some((next, progress)) = next else {
                webhooks.run(&drain).await;
                return WEBHOOKS;
            };
            let moved = drain.child_token();
            tokio::select! {
                () = webhooks.run(&moved) => {}
                () = async {
                    progress.reached(Phase::Moved).await;
                    moved.cancel();
                    pending().await
                } => {}
            }
            next.begin_after_move(&drain).await;
            next.run(&drain).await;
            WEBHOOKS
        }
    }
}
