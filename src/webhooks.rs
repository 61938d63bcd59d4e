//! Sends the events of all users to the receivers that operators configure.
//!
//! Each instance has a [`Sender`] for each receiver. A lease in the store lets one of them deliver at a
//! time. The store has the position of each receiver and the bounds of the batch under way, so any instance can take
//! over and send the same batch again.

mod batch;
mod client;
mod receiver;
mod sender;
mod signature;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::batch::cursor_of;
use self::client::WebhookClient;
use self::sender::{Sender, Step};
use crate::config::{InvalidSetting, WebhooksConfig};
use crate::events::Hub;
use crate::model::{Epoch, Position};
use crate::store::{Store, StoreError};
use crate::telemetry::{Metrics, TraceContext};

/// How long an event waits for more, so that a batch has several. The lease is claimed afterwards: a process that is
/// frozen meanwhile does not have it.
const GATHERING: Duration = Duration::from_millis(250);

/// The longest wait for a lease before it is claimed again.
const CLAIM_INTERVAL: Duration = Duration::from_secs(5);

/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// The pause between two looks at a receiver that another instance serves, while a call waits for the delivery.
const LOOK: Duration = Duration::from_millis(250);

/// The receivers of webhooks, and their senders on this instance.
#[derive(Debug)]
pub(crate) struct Webhooks {
    senders: Vec<Sender>,
    hub: Arc<Hub>,
}

impl Webhooks {
    /// The receivers of `config`. Fails if a setting is invalid.
    pub(crate) fn new(
        config: &WebhooksConfig,
        store: &Arc<Store>,
        hub: &Arc<Hub>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, InvalidSetting> {
        let receivers = receiver::receivers(config)?;
        let client = WebhookClient::new()?;
        let sender = |receiver| {
            let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
            Sender::new(receiver, store, client.clone(), metrics)
        };
        Ok(Self {
            senders: receivers.into_iter().map(sender).collect(),
            hub: Arc::clone(hub),
        })
    }

    /// Delivers until the drain begins. Then gives all leases up.
    pub(crate) async fn run(&self, drain: &CancellationToken) {
        if self.senders.is_empty() {
            drain.cancelled().await;
            return;
        }
        let runs = self
            .senders
            .iter()
            .map(|sender| self.run_one(sender, drain));
        join_all(runs).await;
    }

    /// Begins at the newest event after a move to this store, with a reset, unless another instance has begun already.
    pub(crate) async fn begin_after_move(&self, drain: &CancellationToken) {
        let all = self.senders.iter().map(async |sender| {
            while let Err(error) = sender.begin_after_move().await {
                debug!(receiver = sender.name(), %error, "a receiver cannot begin after the move");
                sleep(STORE_PAUSE).await;
            }
        });
        drain.run_until_cancelled(join_all(all)).await;
    }

    /// Delivers everything that the store held when the call began, to each receiver that accepts it. Returns the
    /// number of delivered events, at the latest after `limit`. The deliveries are spans of `trace`.
    pub(crate) async fn deliver_pending(
        &self,
        limit: Duration,
        trace: Option<TraceContext>,
    ) -> usize {
        let until = Instant::now() + limit;
        let senders = self.senders.iter();
        let deliveries = senders.map(|sender| deliver(sender, until, trace));
        join_all(deliveries).await.into_iter().sum()
    }

    /// Waits until the next step of a sender may have something to do. Before the last step, this instance knew the
    /// events up to `known`.
    async fn wait_after(
        &self,
        step: Result<Step, StoreError>,
        sender: &Sender,
        known: &[Option<(Epoch, Position)>],
    ) {
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                debug!(receiver = sender.name(), %error, "a step of the webhooks failed");
                return sleep(STORE_PAUSE).await;
            }
        };
        let has_all = match cursor_of(known) {
            Some(newest) => sender.has_all(&newest).await,
            None => false,
        };
        let changed = self.hub.newest_differs_from(known);
        match step {
            Step::Delivered(_, true) => return,
            Step::Paused(pause) => {
                // Another instance or an operator may end the pause.
                let look = async {
                    changed.await;
                    sleep(CLAIM_INTERVAL).await;
                };
                return drop(timeout(pause, look).await);
            }
            Step::Delivered(..) | Step::UpToDate | Step::Held(_) if has_all => changed.await,
            Step::Delivered(_, false) => {}
            // The store has events that this instance does not know yet, or the other way around.
            Step::UpToDate => drop(timeout(CLAIM_INTERVAL, changed).await),
            Step::Held(remaining) => return sleep(remaining.min(CLAIM_INTERVAL)).await,
        }
        sleep(GATHERING).await;
    }

    async fn run_one(&self, sender: &Sender, drain: &CancellationToken) {
        loop {
            let known = self.hub.newest_of_all();
            let step = drain.run_until_cancelled(sender.step(None)).await;
            let Some(step) = step else { break };
            let waits = self.wait_after(step, sender, &known);
            drain.run_until_cancelled(waits).await;
        }
        if let Err(error) = sender.release().await {
            debug!(receiver = sender.name(), %error, "the lease was not released");
        }
    }
}

async fn deliver(sender: &Sender, until: Instant, trace: Option<TraceContext>) -> usize {
    let mut delivered = 0;
    while Instant::now() < until {
        let left = until - Instant::now();
        match timeout(left, sender.step(trace)).await {
            Ok(Ok(Step::Delivered(events, _))) => delivered += events,
            Ok(Ok(Step::Held(remaining))) if !sender.has_all_of_the_store().await => {
                sleep(remaining.min(LOOK)).await;
            }
            Ok(Ok(_) | Err(_)) | Err(_) => break,
        }
    }
    delivered
}
