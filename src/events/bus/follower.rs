//! Follows the history of one partition.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::fill;
use super::joined;
use super::reads::{READ_EVENTS, Reads};
use super::resets::Resets;
use crate::events::hub::Hub;
use crate::events::hub::kept::Filled;
use crate::events::sse::payload::ResetReason;
use crate::model::{Entry, Epoch, Partition, Position};
use crate::store::{Backoff, StoreError};
use crate::telemetry::Metrics;

/// Clock difference to other instances that the bus accepts.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// Events that are published before other tasks run.
const PUBLISH_PART: usize = 128;

/// Messages that wait for a follower.
const INBOX: usize = 64;

/// New entries of the data set of a partition.
pub(super) type Message = (Epoch, Vec<Entry>);

/// Where readers put the messages of one partition.
#[derive(Debug)]
pub(super) struct Inbox {
    messages: mpsc::Sender<Message>,
    changed: Arc<Notify>,
}

/// What a follower receives.
#[derive(Debug)]
pub(super) struct Signals {
    messages: mpsc::Receiver<Message>,
    changed: Arc<Notify>,
}

impl Inbox {
    /// Returns an empty inbox.
    pub(super) fn new() -> (Self, Signals) {
        let (sender, messages) = mpsc::channel(INBOX);
        let changed = Arc::new(Notify::new());
        let inbox = Self {
            messages: sender,
            changed: Arc::clone(&changed),
        };
        (inbox, Signals { messages, changed })
    }

    /// Makes the follower read the history.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Adds a message. If too many wait, the follower reads the history instead.
    pub(super) fn try_send(&self, message: Message) {
        if self.messages.try_send(message).is_err() {
            self.changed();
        }
    }

    /// Adds a message, and waits until there is space for it.
    pub(super) async fn send(&self, message: Message) {
        if self.messages.send(message).await.is_err() {
            self.changed();
        }
    }
}

/// The only writer of the events of one partition.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) partition: Partition,
    pub(super) reads: Arc<Reads>,
    pub(super) hub: Arc<Hub>,
    pub(super) resets: Arc<Resets>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) filled: mpsc::Sender<Filled>,
}

impl Follower {
    /// Follows the partition until the future is dropped.
    pub(super) async fn run(self, mut signals: Signals) {
        let mut backoff = Backoff::default();
        // The first subscription comes before the first read, so that no event falls between them.
        signals.changed.notified().await;
        loop {
            let caught_up = self.catch_up().await;
            self.reads.note(self.partition, &caught_up);
            if caught_up.is_ok() {
                backoff = Backoff::default();
                self.follow(&mut signals).await;
            } else {
                sleep(backoff.next()).await;
            }
        }
    }

    /// Publishes messages until the history must be read.
    async fn follow(&self, signals: &mut Signals) {
        loop {
            tokio::select! {
                biased;
                () = signals.changed.notified() => return,
                message = signals.messages.recv() => {
                    let Some((epoch, entries)) = message else {
                        return;
                    };
                    if self.is_far_in_the_future(&entries) || !self.publish(epoch, &entries).await {
                        return;
                    }
                }
            }
        }
    }

    /// Whether an entry is too far in the future to be accepted from a notification. Only the
    /// history can confirm it: a forged entry in the future would hide all later events.
    fn is_far_in_the_future(&self, entries: &[Entry]) -> bool {
        let now = self.reads.now(self.partition).plus(CLOCK_TOLERANCE);
        let newest = self.hub.newest(self.partition);
        let newest = newest.map_or(0, |(_, newest)| newest.millis);
        let latest = now.as_millis().max(newest);
        entries.iter().any(|entry| entry.position().millis > latest)
    }

    /// Publishes the events of the history that the hub has not received.
    async fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            let Some((epoch, newest)) = self.hub.newest(self.partition) else {
                self.begin().await?;
                continue;
            };
            let history = self
                .reads
                .after(self.partition, newest, READ_EVENTS)
                .await?;
            if history.epoch != epoch {
                self.follow_new_epoch(newest).await?;
                continue;
            }
            if !history.continues(newest) {
                let filled = self.fill().await?;
                self.restart(filled, ResetReason::HistoryGone);
                continue;
            }
            if history.entries.is_empty() {
                return Ok(());
            }
            self.metrics.bus_catch_ups.inc();
            self.publish(history.epoch, &history.entries).await;
        }
    }

    /// Reads the recent events for the first time, and waits until they are in the hub.
    async fn begin(&self) -> Result<(), StoreError> {
        let filled = self.fill().await?;
        // The hub is filled for as long as the bus runs.
        let _ = self.filled.send(filled).await;
        let is_known = |hub: &Hub| hub.newest(self.partition).is_some();
        self.hub.wait_until(is_known).await;
        Ok(())
    }

    async fn fill(&self) -> Result<Filled, StoreError> {
        let bounds = self.hub.bounds_of_one();
        let on_answer = || self.hub.start_filling(self.partition);
        fill::read(&self.reads, self.partition, bounds, on_answer).await
    }

    /// Switches to a new data set. If its history contains `followed`, the bus continues there: the
    /// events before it were delivered. If the history is complete since the data set began, none
    /// of its events was delivered, and the bus begins at its start. Otherwise the bus begins at
    /// its end.
    async fn follow_new_epoch(&self, followed: Position) -> Result<(), StoreError> {
        let history = self.reads.after(self.partition, followed, 1).await?;
        let (epoch, from) = if history.continues(followed) {
            (history.epoch, followed)
        } else {
            let history = self.reads.after(self.partition, Position::START, 1).await?;
            let is_whole = history.continues(Position::START);
            match history.entries.first() {
                Some(first) if !is_whole || !is_in_data_set(history.epoch, first) => {
                    (history.epoch, history.newest)
                }
                _ => (history.epoch, Position::START),
            }
        };
        let filled = Filled::until(self.partition, epoch, from);
        self.restart(filled, ResetReason::DataLost);
        Ok(())
    }

    fn restart(&self, filled: Filled, reason: ResetReason) {
        self.hub.restart(filled, reason);
        self.resets.request();
    }

    /// Publishes in parts and lets other tasks run between them, so that no queue overflows when
    /// thousands of users leave at once. Returns false if an event is missing.
    async fn publish(&self, epoch: Epoch, entries: &[Entry]) -> bool {
        let now = self.reads.now(self.partition);
        for entry in entries {
            let lag = now.since(entry.at());
            self.metrics.bus_lag_seconds.observe(lag.as_secs_f64());
        }
        for part in entries.chunks(PUBLISH_PART) {
            let states = joined::states(&self.reads, &self.hub, self.partition, part).await;
            let published = self.hub.publish(self.partition, epoch, part, &states);
            let published = published.await;
            if published.is_err() {
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
