//! Brings what any instance announces into the hub, in order and without a gap.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::{info, warn};

use super::Cursor;
use super::expiry::Doorbell;
use super::hub::Hub;
use super::payload::ResetReason;
use super::streams::Streams;
use crate::presence::{Entry, Epoch, Position};
use crate::store::{Backoff, Signal, Store, StoreError, Subscription};
use crate::telemetry::Metrics;

/// How many events of the history one step of catching up reads.
const CATCH_UP_STEP: usize = 1_000;

/// How many events are published before others get their turn.
const PUBLISH_STEP: usize = 128;

/// The one writer of the hub.
#[derive(Debug)]
pub struct Bus {
    store: Arc<Store>,
    hub: Arc<Hub>,
    streams: Arc<Streams>,
    doorbell: Arc<Doorbell>,
    behind: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl Bus {
    /// A bus from `store` into `hub`; `behind` tells it that it missed something.
    pub fn new(
        store: Arc<Store>,
        hub: Arc<Hub>,
        streams: Arc<Streams>,
        doorbell: Arc<Doorbell>,
        behind: Arc<Notify>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            hub,
            streams,
            doorbell,
            behind,
            metrics,
        }
    }

    /// Subscribes, again whenever the subscription is lost, for as long as it is polled.
    pub async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            match self.store.subscribe().await {
                Ok(subscription) => match self.follow(subscription).await {
                    Ok(()) => backoff = Backoff::default(),
                    Err(error) => warn!(%error, "the bus could not catch up"),
                },
                Err(error) => warn!(%error, "the bus could not subscribe"),
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
                () = self.behind.notified() => {
                    warn!("the bus missed an event and subscribes again");
                    return Ok(());
                }
            };
            match signal {
                Some(Signal::Entries(epoch, entries)) => {
                    if !self.publish(epoch, &entries).await {
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

    /// Publishes what the history holds and the hub has not heard of.
    async fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            let Some((epoch, newest)) = self.hub.newest() else {
                let (epoch, newest) = self.store.newest().await?;
                self.hub.restart(epoch, newest);
                continue;
            };
            let history = self.store.history(newest, CATCH_UP_STEP).await?;
            if history.epoch != epoch {
                self.reset_to_start(ResetReason::DataLost).await?;
                continue;
            }
            if !history.continues(newest) {
                self.reset(history.epoch, history.newest, ResetReason::HistoryGone);
                continue;
            }
            if history.entries.is_empty() {
                return Ok(());
            }
            self.metrics.bus_catch_ups.inc();
            self.publish(history.epoch, &history.entries).await;
        }
    }

    /// Goes over to the new data set, from its very beginning where that is still there.
    async fn reset_to_start(&self, reason: ResetReason) -> Result<(), StoreError> {
        let history = self.store.history(Position::START, 1).await?;
        let from = if history.continues(Position::START) {
            Position::START
        } else {
            history.newest
        };
        self.reset(history.epoch, from, reason);
        Ok(())
    }

    fn reset(&self, epoch: Epoch, position: Position, reason: ResetReason) {
        warn!(reason = reason.as_str(), "every stream starts anew");
        let followers = self.hub.restart(epoch, position);
        self.streams
            .reset(followers, reason, Cursor::at(epoch, position));
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
