//! Follows the history of the store, and writes every event into the hub in order and without a
//! gap.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::doorbell::Doorbell;
use super::hub::Hub;
use super::hub::ring::Ring;
use super::sse::cursor::Cursor;
use super::sse::payload::ResetReason;
use super::stream_service::StreamService;
use crate::model::{Entry, Epoch, Partition, Position};
use crate::store::{Backoff, NodeId, Signal, Store, StoreError, Subscription};
use crate::telemetry::Metrics;

/// Events that one read of the history returns. Redis takes less than a millisecond for them.
const READ_EVENTS: usize = 250;

/// The pause between two reads while the ring is filled.
const FILL_PAUSE: Duration = Duration::from_millis(1);

/// Time limit for filling the ring. Older events are left out, so that a start ends in time.
const FILL_LIMIT: Duration = Duration::from_secs(4);

/// Attempts to read the history before the bus subscribes again.
const ATTEMPTS: u32 = 5;

/// Clock difference to other instances that the bus accepts.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// Events that are published before other tasks run.
const PUBLISH_PART: usize = 128;

/// The only writer of the hub.
#[derive(Debug)]
pub(crate) struct Bus {
    store: Arc<Store>,
    hub: Arc<Hub>,
    streams: Arc<StreamService>,
    doorbell: Arc<Doorbell>,
    metrics: Arc<Metrics>,
}

impl Bus {
    /// Returns a bus from `store` to `hub`.
    pub(crate) fn new(
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

    /// Follows the store until the future is dropped. Subscribes again after each lost
    /// subscription.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            let subscription = self.store.subscribe(NodeId::ONLY).await;
            match self.follow(subscription).await {
                Ok(()) => backoff = Backoff::default(),
                Err(error) => warn!(%error, "bus: could not read the history"),
            }
            sleep(backoff.next()).await;
        }
    }

    async fn follow(&self, mut subscription: Subscription) -> Result<(), StoreError> {
        self.catch_up().await?;
        info!("bus: following the history");
        loop {
            let signal = tokio::select! {
                signal = subscription.next() => signal,
                () = self.hub.resync_requested() => {
                    warn!("bus: events and history differ, subscribing again");
                    return Ok(());
                }
            };
            match signal {
                Some(Signal::Entries(_, epoch, entries)) => {
                    if self.is_far_in_the_future(&entries) || !self.publish(epoch, &entries).await {
                        self.catch_up().await?;
                    }
                }
                Some(Signal::Changed(_)) => self.catch_up().await?,
                Some(Signal::Expired(partition)) => self.doorbell.ring(partition),
                None => {
                    warn!("bus: subscription lost");
                    return Ok(());
                }
            }
        }
    }

    /// Whether an entry is too far in the future to be accepted from a notification. Only the
    /// history can confirm it: a forged entry in the future would hide all later events.
    fn is_far_in_the_future(&self, entries: &[Entry]) -> bool {
        let now = self
            .store
            .now(Partition::FIRST)
            .plus(CLOCK_TOLERANCE)
            .as_millis();
        let newest = self.hub.newest().map_or(0, |(_, newest)| newest.millis);
        let latest = now.max(newest);
        entries.iter().any(|entry| entry.position().millis > latest)
    }

    /// Publishes the events of the history that the hub has not received.
    async fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            let Some((epoch, newest)) = self.hub.newest() else {
                let (epoch, ring) = self.fill_ring().await?;
                self.hub.restart(epoch, ring);
                continue;
            };
            let history =
                retry(|| self.store.history(Partition::FIRST, newest, READ_EVENTS)).await?;
            if history.epoch != epoch {
                self.follow_new_epoch(newest).await?;
                continue;
            }
            if !history.continues(newest) {
                let (epoch, ring) = self.fill_ring().await?;
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

    /// Reads the recent events backwards, in small steps, until the ring is full.
    async fn fill_ring(&self) -> Result<(Epoch, Ring), StoreError> {
        let began = Instant::now();
        let mut page = retry(|| {
            self.store
                .history_before(Partition::FIRST, None, READ_EVENTS)
        })
        .await?;
        self.hub.start_filling();
        let epoch = page.epoch;
        let mut ring = self.hub.ring_after(page.newest);
        let mut before = page.newest;
        loop {
            for entry in &page.entries {
                // After a missing entry, older entries are useless for a resume.
                let is_next = entry.position() == before;
                if !is_next || ring.is_full_at(self.store.now(Partition::FIRST)) {
                    ring.link();
                    return Ok((epoch, ring));
                }
                ring.prepend(entry);
                before = entry.previous();
            }
            let is_last = page.entries.len() < READ_EVENTS;
            if is_last || page.epoch != epoch || began.elapsed() > FILL_LIMIT {
                ring.link();
                return Ok((epoch, ring));
            }
            // Pings need the store as well.
            sleep(FILL_PAUSE).await;
            let oldest = page.entries.last().map(Entry::position);
            page = retry(|| {
                self.store
                    .history_before(Partition::FIRST, oldest, READ_EVENTS)
            })
            .await?;
        }
    }

    /// Switches to a new data set. If its history contains `followed`, the bus continues there: the
    /// events before it were delivered. If the history is complete since the data set began, none
    /// of its events was delivered, and the bus begins at its start. Otherwise the bus begins at
    /// its end.
    async fn follow_new_epoch(&self, followed: Position) -> Result<(), StoreError> {
        let history = retry(|| self.store.history(Partition::FIRST, followed, 1)).await?;
        let (epoch, from) = if history.continues(followed) {
            (history.epoch, followed)
        } else {
            let history =
                retry(|| self.store.history(Partition::FIRST, Position::START, 1)).await?;
            let is_whole = history.continues(Position::START);
            match history.entries.first() {
                Some(first) if !is_whole || !is_in_data_set(history.epoch, first) => {
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
        warn!(reason = reason.as_str(), "bus: resetting all streams");
        let from = Cursor::at(epoch, ring.newest());
        let generation = self.hub.restart(epoch, ring);
        self.streams.opener().reset(generation, reason, from).await;
    }

    /// Publishes in parts and lets other tasks run between them, so that no queue overflows when
    /// thousands of users leave at once. Returns false if an event is missing.
    async fn publish(&self, epoch: Epoch, entries: &[Entry]) -> bool {
        let now = self.store.now(Partition::FIRST);
        for entry in entries {
            let lag = now.since(entry.at());
            self.metrics.bus_lag_seconds.observe(lag.as_secs_f64());
        }
        for part in entries.chunks(PUBLISH_PART) {
            if self.hub.publish(epoch, part).is_err() {
                return false;
            }
            yield_now().await;
        }
        true
    }
}

/// Whether an entry is not older than its data set. An epoch is the microsecond in which the data
/// set began.
fn is_in_data_set(epoch: Epoch, first: &Entry) -> bool {
    first.position().millis >= epoch.0 / 1_000
}

/// Repeats a read that fails.
async fn retry<T, R>(read: impl Fn() -> R) -> Result<T, StoreError>
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
