//! Brings what any instance announces into the hub, in order and without a gap.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::doorbell::Doorbell;
use super::hub::Hub;
use super::hub::ring::Ring;
use super::service::StreamService;
use super::sse::cursor::Cursor;
use super::sse::payload::ResetReason;
use crate::model::{Entry, Epoch, Position};
use crate::store::{Backoff, Signal, Store, StoreError, Subscription};
use crate::telemetry::Metrics;

/// How many events of the history one step reads: Redis takes less than a millisecond for them.
const STEP: usize = 250;

/// The time between two steps of filling the memory.
const FILL_PAUSE: Duration = Duration::from_millis(1);

/// How long the memory is filled. What would take longer is not kept, so that a start ends.
const FILL_PATIENCE: Duration = Duration::from_secs(4);

/// How often a read of the history is made again before the bus subscribes anew.
const ATTEMPTS: u32 = 5;

/// How far in the future an event may seem to lie that the bus brings, as clocks go.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// How many events are published before others get their turn.
const PUBLISH_STEP: usize = 128;

/// The one writer of the hub.
#[derive(Debug)]
pub struct Bus {
    store: Arc<Store>,
    hub: Arc<Hub>,
    streams: Arc<StreamService>,
    doorbell: Arc<Doorbell>,
    metrics: Arc<Metrics>,
}

impl Bus {
    /// A bus from `store` into `hub`.
    pub fn new(
        store: Arc<Store>,
        hub: Arc<Hub>,
        streams: Arc<StreamService>,
        doorbell: Arc<Doorbell>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            hub,
            streams,
            doorbell,
            metrics,
        }
    }

    /// Subscribes, again whenever the subscription is lost, for as long as it is polled.
    pub async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            let subscription = self.store.subscribe().await;
            match self.follow(subscription).await {
                Ok(()) => backoff = Backoff::default(),
                Err(error) => warn!(%error, "the bus could not catch up"),
            }
            sleep(backoff.next()).await;
        }
    }

    async fn follow(&self, mut subscription: Subscription) -> Result<(), StoreError> {
        self.catch_up().await?;
        info!("the bus follows");
        loop {
            let signal = tokio::select! {
                signal = subscription.next() => signal,
                () = self.hub.resync_requested() => {
                    warn!("the bus and the history differ: the bus subscribes again");
                    return Ok(());
                }
            };
            match signal {
                Some(Signal::Entries(epoch, entries)) => {
                    if self.is_far_ahead(&entries) || !self.publish(epoch, &entries).await {
                        self.catch_up().await?;
                    }
                }
                Some(Signal::Changed) => self.catch_up().await?,
                Some(Signal::Expired) => self.doorbell.ring(),
                None => {
                    warn!("the bus lost its subscription");
                    return Ok(());
                }
            }
        }
    }

    /// Whether entries are so far in the future that only the history can say whether they exist:
    /// everything that really happens would be hidden behind a forged one.
    fn is_far_ahead(&self, entries: &[Entry]) -> bool {
        let now = self.store.now().plus(CLOCK_TOLERANCE).as_millis();
        let newest = self.hub.newest().map_or(0, |(_, newest)| newest.millis);
        let latest = now.max(newest);
        entries.iter().any(|entry| entry.position().millis > latest)
    }

    /// Publishes what the history holds and the hub has not heard of.
    async fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            let Some((epoch, newest)) = self.hub.newest() else {
                let (epoch, ring) = self.fill().await?;
                self.hub.restart(epoch, ring);
                continue;
            };
            let history = again(|| self.store.history(newest, STEP)).await?;
            if history.epoch != epoch {
                self.reset_to_new_epoch(newest).await?;
                continue;
            }
            if !history.continues(newest) {
                let (epoch, ring) = self.fill().await?;
                self.reset(epoch, ring, ResetReason::HistoryGone).await;
                continue;
            }
            if history.entries.is_empty() {
                return Ok(());
            }
            self.metrics.bus_catch_ups.inc();
            self.publish(history.epoch, &history.entries).await;
        }
    }

    /// Reads the recent events from the newest back, in small steps, until there are enough.
    async fn fill(&self) -> Result<(Epoch, Ring), StoreError> {
        let began = Instant::now();
        let mut page = again(|| self.store.history_before(None, STEP)).await?;
        self.hub.start_filling();
        let epoch = page.epoch;
        let mut ring = self.hub.ring_after(page.newest);
        let mut before = page.newest;
        loop {
            for entry in &page.entries {
                // Where one is missing, nothing can be resumed from before it.
                let is_next = entry.position() == before;
                if !is_next || ring.is_full_at(self.store.now()) {
                    ring.link();
                    return Ok((epoch, ring));
                }
                ring.prepend(entry);
                before = entry.previous();
            }
            let is_last = page.entries.len() < STEP;
            if is_last || page.epoch != epoch || began.elapsed() > FILL_PATIENCE {
                ring.link();
                return Ok((epoch, ring));
            }
            // Others, who ping, get their turn in the store as well.
            sleep(FILL_PAUSE).await;
            let oldest = page.entries.last().map(Entry::position);
            page = again(|| self.store.history_before(oldest, STEP)).await?;
        }
    }

    /// Goes over to the new data set. Where its history is the one that was followed up to
    /// `followed`, it goes on there: what came before was told. Where it began with the data set,
    /// nothing in it was told yet. Otherwise nobody knows what was told, and it goes on at its end.
    async fn reset_to_new_epoch(&self, followed: Position) -> Result<(), StoreError> {
        let history = again(|| self.store.history(followed, 1)).await?;
        let (epoch, from) = if history.continues(followed) {
            (history.epoch, followed)
        } else {
            let history = again(|| self.store.history(Position::START, 1)).await?;
            let is_whole = history.continues(Position::START);
            match history.entries.first() {
                Some(first) if !is_whole || !began_with(history.epoch, first) => {
                    (history.epoch, history.newest)
                }
                _ => (history.epoch, Position::START),
            }
        };
        let ring = self.hub.ring_after(from);
        self.reset(epoch, ring, ResetReason::DataLost).await;
        Ok(())
    }

    async fn reset(&self, epoch: Epoch, ring: Ring, reason: ResetReason) {
        warn!(reason = reason.as_str(), "every stream starts anew");
        let from = Cursor::at(epoch, ring.newest());
        let generation = self.hub.restart(epoch, ring);
        self.streams.opener().reset(generation, reason, from).await;
    }

    /// Publishes in parts, between which those who read the streams get their turn: a queue must
    /// not overflow because thousands leave in one moment.
    async fn publish(&self, epoch: Epoch, entries: &[Entry]) -> bool {
        let now = self.store.now();
        for entry in entries {
            let lag = now.since(entry.at());
            self.metrics.bus_lag_seconds.observe(lag.as_secs_f64());
        }
        for part in entries.chunks(PUBLISH_STEP) {
            if self.hub.publish(epoch, part).is_err() {
                return false;
            }
            yield_now().await;
        }
        true
    }
}

/// Whether an entry is not older than its data set, whose epoch is the microsecond it began in.
fn began_with(epoch: Epoch, first: &Entry) -> bool {
    first.position().millis >= epoch.0 / 1_000
}

/// Makes a read again that failed or came late.
async fn again<T, R>(read: impl Fn() -> R) -> Result<T, StoreError>
where
    R: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::default();
    for _ in 1..ATTEMPTS {
        match read().await {
            Err(_) => sleep(backoff.next()).await,
            found => return found,
        }
    }
    read().await
}
