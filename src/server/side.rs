//! The parts of an instance that belong to one store. During a move, an instance has two sides.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Config, InvalidSetting};
use crate::events::{Bus, Doorbell, Hub, Limits, StreamService};
use crate::presence::{Answering, MoveProgress};
use crate::registration::Registration;
use crate::store::Store;
use crate::sweeper::Sweeper;
use crate::telemetry::Metrics;
use crate::webhooks::Webhooks;

/// A store, and what follows its events.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) store: Arc<Store>,
    pub(super) hub: Arc<Hub>,
    pub(super) streams: Arc<StreamService>,
    pub(super) webhooks: Arc<Webhooks>,
    pub(super) registration: Arc<Registration>,
}

/// The side of the store to move to.
#[derive(Debug)]
pub(super) struct NextSide {
    pub(super) side: Side,
    /// Where the store is.
    pub(super) place: String,
    pub(super) progress: Arc<MoveProgress>,
}

impl Side {
    pub(super) fn new(
        store: Arc<Store>,
        config: &Config,
        limits: Limits,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, InvalidSetting> {
        let hub = Hub::new(Arc::clone(metrics), limits, store.partitions());
        let hub = Arc::new(hub);
        let webhooks = Webhooks::new(&config.webhooks, &store, &hub, metrics)?;
        let streams = StreamService::new(Arc::clone(&store), Arc::clone(&hub), config, limits);
        let registration = Registration::new(Arc::clone(&store), Arc::clone(metrics));
        Ok(Self {
            registration: Arc::new(registration),
            store,
            hub,
            streams: Arc::new(streams),
            webhooks: Arc::new(webhooks),
        })
    }

    /// Starts to supervise the store, to sweep it and to follow its events. Each task returns its name when it ends.
    /// Sweeps and the bus pause for ever when the store is not used any more.
    pub(super) fn start(
        &self,
        tasks: &mut JoinSet<&'static str>,
        metrics: &Arc<Metrics>,
        sweep_interval: Duration,
        answering: &Answering,
    ) {
        let doorbell = Arc::new(Doorbell::default());
        let sweeper = Sweeper::new(
            Arc::clone(&self.store),
            Arc::clone(&self.hub),
            Arc::clone(&doorbell),
            Arc::clone(metrics),
            answering.clone(),
            sweep_interval,
        );
        let bus = Bus::new(
            Arc::clone(&self.store),
            Arc::clone(&self.hub),
            Arc::clone(&self.streams),
            doorbell,
            Arc::clone(metrics),
        );
        tasks.spawn(supervise(Arc::clone(&self.store)));
        let of_sweeper = answering.clone();
        tasks.spawn(async move {
            until_end(&of_sweeper, sweeper.run()).await;
            "sweeper"
        });
        let of_bus = answering.clone();
        tasks.spawn(async move {
            until_end(&of_bus, bus.run()).await;
            "bus"
        });
        let hub = Arc::clone(&self.hub);
        tasks.spawn(async move {
            tick(&hub).await;
            "keep-alive"
        });
    }
}

impl NextSide {
    /// The store to move to, if the settings name one.
    pub(super) fn open(config: &Config) -> Result<Option<Arc<Store>>, InvalidSetting> {
        let next = Store::open_next(config)?;
        if next.is_some() && config.lambda.is_enabled() {
            let why = "has no effect on AWS Lambda; move with instances that listen on an address";
            return Err(InvalidSetting::new("REDIS_URL_NEXT", why));
        }
        Ok(next.map(Arc::new))
    }

    pub(super) fn new(side: Side, config: &Config) -> Result<Self, InvalidSetting> {
        let next = config.redis.next()?;
        let place = next.and_then(|next| next.place());
        Ok(Self {
            side,
            place: place.unwrap_or_default(),
            progress: Arc::default(),
        })
    }
}

/// Keeps the connection to a store open.
pub(super) async fn supervise(store: Arc<Store>) -> &'static str {
    store.supervise().await;
    "connection to the store"
}

/// Runs `work` until its store is not used any more, and then waits for ever.
async fn until_end(answering: &Answering, work: impl Future<Output = ()>) {
    tokio::select! {
        () = answering.ended() => pending().await,
        () = work => {}
    }
}

async fn tick(hub: &Hub) {
    let mut ticks = interval(crate::events::TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        hub.tick();
    }
}
