//! Delivers the events to one receiver.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::{info, warn};

use super::batch::{Batch, FilledBatch, MAX_ENTRIES, newest};
use super::client::{Failure, WebhookClient};
use super::receiver::Receiver;
use crate::events::{Cursor, ResetReason};
use crate::model::{Claim, Delivery, Partition};
use crate::store::{Store, StoreError};
use crate::telemetry::{Metrics, TraceContext};

/// The pause after the first failed attempt. Each further failure doubles the pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after a failed attempt, before the jitter.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The random part of a pause, so that the retries of several receivers spread.
const JITTER: f64 = 0.2;

/// The position of a receiver whose events were in another store. No cursor has this text, so the next batch is a
/// reset.
const OTHER_STORE: &str = "moved";

/// What one step of a sender did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The receiver got a batch with this many events. The flag says whether the batch was full. After a batch that was
    /// not, the lease is given up, because this process may be frozen before the next event.
    Delivered(usize, bool),
    /// The receiver has all events, and the lease is given up.
    UpToDate,
    /// Another instance is the sender, for this time at most.
    Held(Duration),
    /// The next attempt is due after this time, and the lease is given up.
    Paused(Duration),
}

/// Delivers the events to one receiver, while this instance holds the lease of the receiver.
#[derive(Debug)]
pub(super) struct Sender {
    receiver: Receiver,
    store: Arc<Store>,
    client: WebhookClient,
    metrics: Arc<Metrics>,
    /// The name of this instance in the lease.
    holder: String,
    memory: Mutex<Memory>,
}

/// What a sender knows from its last step.
#[derive(Debug, Default)]
struct Memory {
    /// Where the receiver was. If the store loses its data, the next batch begins with a reset.
    cursor: Option<Cursor>,
    is_failing: bool,
}

impl Sender {
    pub(super) fn new(
        receiver: Receiver,
        store: Arc<Store>,
        client: WebhookClient,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            receiver,
            store,
            client,
            metrics,
            holder: format!("{:016x}", fastrand::u64(..)),
            memory: Mutex::default(),
        }
    }

    /// The name of the receiver.
    pub(super) fn name(&self) -> &str {
        &self.receiver.name
    }

    /// Claims the lease and delivers at most one batch. A delivery is a span of `trace`, or of a trace of the batch.
    pub(super) async fn step(&self, trace: Option<TraceContext>) -> Result<Step, StoreError> {
        let mut memory = self.memory.lock().await;
        let delivery = match self.claim(&mut memory).await? {
            Claim::Granted(delivery) => delivery,
            Claim::Held { cursor, remaining } => {
                self.metrics.webhook_backlog(self.name(), Duration::ZERO);
                memory.cursor = self.parsed(&cursor).or(memory.cursor.take());
                return Ok(Step::Held(remaining));
            }
        };
        if !delivery.pause.is_zero() {
            self.give_up_lease().await?;
            return Ok(Step::Paused(delivery.pause));
        }
        let next = match self.parsed(&delivery.cursor) {
            Some(cursor) => {
                memory.cursor = Some(cursor.clone());
                self.batch(&cursor, &delivery).await?
            }
            // The store had another number of partitions.
            None => {
                let newest = newest(&self.store).await?;
                let reset = Batch::reset_at(newest, ResetReason::LayoutChanged);
                Some((reset, false))
            }
        };
        let Some((filled, is_recorded)) = next else {
            self.metrics.webhook_backlog(self.name(), Duration::ZERO);
            self.give_up_lease().await?;
            return Ok(Step::UpToDate);
        };
        if let Some(oldest) = filled.oldest() {
            let backlog = self.store.now(Partition::FIRST).since(oldest);
            self.metrics.webhook_backlog(self.name(), backlog);
        }
        let batch = Delivery {
            batch: Some(filled.batch.to_string()),
            ..delivery.clone()
        };
        if !is_recorded && !self.record(&batch).await? {
            return Ok(Step::Paused(FIRST_PAUSE));
        }
        self.deliver(&mut memory, &batch, &filled, trace).await
    }

    /// Whether the receiver has all events up to `newest`, as far as the last step found out.
    pub(super) async fn has_all(&self, newest: &Cursor) -> bool {
        self.memory.lock().await.cursor.as_ref() == Some(newest)
    }

    /// Whether the receiver has all events of the store, as far as the last step found out.
    pub(super) async fn has_all_of_the_store(&self) -> bool {
        match newest(&self.store).await {
            Ok(newest) => self.has_all(&newest).await,
            Err(_) => false,
        }
    }

    /// Lets a receiver that this store does not know yet begin with a reset.
    pub(super) async fn begin_after_move(&self) -> Result<(), StoreError> {
        let claim = self
            .store
            .claim_delivery(self.name(), &self.holder, Some(OTHER_STORE));
        claim.await.map(drop)
    }

    /// Gives the lease up, so that another instance need not wait for its end.
    pub(super) async fn release(&self) -> Result<(), StoreError> {
        let _step = self.memory.lock().await;
        self.give_up_lease().await
    }

    async fn give_up_lease(&self) -> Result<(), StoreError> {
        self.store.release_delivery(self.name(), &self.holder).await
    }

    async fn claim(&self, memory: &mut Memory) -> Result<Claim, StoreError> {
        let (name, holder) = (self.name(), &self.holder);
        let known = self.store.claim_delivery(name, holder, None).await?;
        if let Some(claim) = known {
            return Ok(claim);
        }
        let first = match &memory.cursor {
            Some(cursor) => cursor.clone(),
            None => newest(&self.store).await?,
        };
        let first = first.to_string();
        let claim = self
            .store
            .claim_delivery(name, holder, Some(&first))
            .await?;
        claim.ok_or_else(|| StoreError::Unreachable("the claim was not written".into()))
    }

    fn parsed(&self, cursor: &str) -> Option<Cursor> {
        Cursor::parse(cursor, self.store.partitions()).ok()
    }

    /// The batch to deliver, and whether the store has recorded it.
    async fn batch(
        &self,
        cursor: &Cursor,
        delivery: &Delivery,
    ) -> Result<Option<(FilledBatch, bool)>, StoreError> {
        let recorded = delivery.batch.as_deref();
        let recorded = recorded.and_then(|text| Batch::parse(text, self.store.partitions()));
        if let Some(recorded) = recorded
            && let Some(filled) = recorded.filled(&self.store).await?
        {
            return Ok(Some((filled, true)));
        }
        let filled = Batch::after(&self.store, cursor).await?;
        Ok(filled.map(|filled| (filled, false)))
    }

    async fn deliver(
        &self,
        memory: &mut Memory,
        delivery: &Delivery,
        filled: &FilledBatch,
        trace: Option<TraceContext>,
    ) -> Result<Step, StoreError> {
        let sent = match filled.webhook(self.name(), self.store.partitions()) {
            Some(webhook) => {
                let trace = match trace {
                    Some(request) => request.child(),
                    None => TraceContext::new_trace(webhook.trace),
                };
                let sent = self.client.deliver(&self.receiver, &webhook, trace).await;
                sent.map_err(|failure| (failure, trace))
            }
            None => Ok(()),
        };
        match sent {
            Ok(()) => {
                self.note_success(memory);
                memory.cursor = Some(filled.batch.end.clone());
                let acknowledged = Delivery {
                    cursor: filled.batch.end.to_string(),
                    ..Delivery::default()
                };
                self.record(&acknowledged).await?;
                let is_full = filled.entries.len() == MAX_ENTRIES;
                if !is_full {
                    self.give_up_lease().await?;
                }
                Ok(Step::Delivered(filled.events(), is_full))
            }
            Err((failure, trace)) => {
                self.note_failure(memory, &failure, trace);
                let pause = pause(delivery.attempts, failure.retry_after);
                let failed = Delivery {
                    attempts: delivery.attempts.saturating_add(1),
                    pause,
                    ..delivery.clone()
                };
                self.record(&failed).await?;
                self.give_up_lease().await?;
                Ok(Step::Paused(pause))
            }
        }
    }

    /// Writes the delivery. Returns false if this instance no longer has the lease.
    async fn record(&self, delivery: &Delivery) -> Result<bool, StoreError> {
        let (name, holder) = (self.name(), &self.holder);
        self.store.record_delivery(name, holder, delivery).await
    }

    fn note_success(&self, memory: &mut Memory) {
        self.metrics.webhook_delivered(self.name(), "delivered");
        if std::mem::take(&mut memory.is_failing) {
            info!(receiver = self.name(), "webhooks are delivered again");
        }
    }

    /// Logs the first failure of a series.
    fn note_failure(&self, memory: &mut Memory, failure: &Failure, trace: TraceContext) {
        self.metrics.webhook_delivered(self.name(), "failed");
        if !std::mem::replace(&mut memory.is_failing, true) {
            warn!(
                receiver = self.name(),
                why = failure.cause,
                trace_id = trace.trace_id(),
                "a webhook was not delivered; it is sent again"
            );
        }
    }
}

/// The pause after a failed attempt that followed `attempts` others. A `Retry-After` of less than [`FIRST_PAUSE`], such
/// as a date in the past, does not count.
fn pause(attempts: u32, retry_after: Option<Duration>) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.min(10));
    let asked = retry_after.filter(|asked| *asked >= FIRST_PAUSE);
    let pause = asked.unwrap_or(doubled.min(MAX_PAUSE));
    pause.mul_f64(1.0 + JITTER * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_second_to_a_minute() {
        for (attempts, least) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (40, 60)] {
            let pause = pause(attempts, None).as_secs_f64();
            let least = f64::from(least);
            assert!(
                (least..=least * 1.2).contains(&pause),
                "{attempts}: {pause}"
            );
        }
        let asked = pause(3, Some(Duration::from_secs(300)));
        assert!((300.0..=360.0).contains(&asked.as_secs_f64()), "{asked:?}");
        let at_once = pause(2, Some(Duration::ZERO));
        assert!((4.0..=4.8).contains(&at_once.as_secs_f64()), "{at_once:?}");
    }
}
