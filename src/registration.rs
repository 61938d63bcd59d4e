//! Makes this instance known to operators.
//!
//! Each instance reports about itself to the store now and then. Nothing else depends on the reports: an instance that
//! cannot report still serves and sweeps.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::model::{InstanceReport, Partition, StoreSummary, Timestamp};
use crate::store::{REPORT_INTERVAL, Store, StoreError};
use crate::telemetry::Metrics;

/// The pause after a report failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long the end of an instance waits for the store.
const WITHDRAW_LIMIT: Duration = Duration::from_millis(500);

/// The reports of this instance.
#[derive(Debug)]
pub(crate) struct Registration {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    id: String,
    started: Instant,
    /// When the instance started, on the clock of the store. Set with the first report that succeeds.
    started_at: OnceLock<Timestamp>,
}

impl Registration {
    /// An instance with an id of its own, which starts now.
    pub(crate) fn new(store: Arc<Store>, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            metrics,
            id: format!("{:016x}", fastrand::u64(..)),
            started: Instant::now(),
            started_at: OnceLock::new(),
        }
    }

    /// Reports until the drain begins. Then withdraws the report.
    pub(crate) async fn run(&self, drain: &CancellationToken) {
        while let Some(reported) = drain.run_until_cancelled(self.report()).await {
            let pause = match reported {
                // The jitter spreads the reports of instances that start together.
                Ok(()) => REPORT_INTERVAL.mul_f64(0.9 + fastrand::f64() / 10.0),
                Err(error) => {
                    debug!(%error, "a report about this instance failed");
                    RETRY_PAUSE
                }
            };
            drain.run_until_cancelled(sleep(pause)).await;
        }
        let withdrawn = timeout(WITHDRAW_LIMIT, self.store.withdraw(&self.id)).await;
        if !matches!(withdrawn, Ok(Ok(()))) {
            debug!("the report about this instance was not withdrawn");
        }
    }

    /// All instances, with a report of this instance as of now, and the state of the store.
    pub(crate) async fn overview(&self) -> Result<(Vec<InstanceReport>, StoreSummary), StoreError> {
        let instances = async {
            self.report().await?;
            self.store.instances().await
        };
        tokio::try_join!(instances, self.store.summary())
    }

    /// Reports once.
    async fn report(&self) -> Result<(), StoreError> {
        let started_at = self.started_at.get().copied().unwrap_or_else(|| {
            let now = self.store.now(Partition::FIRST);
            now.minus(self.started.elapsed())
        });
        let report = InstanceReport {
            id: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            streams: self.metrics.open_streams(),
            connections: self.metrics.open_connections(),
            swept_at: self.metrics.last_sweep(),
        };
        self.store.report(&report).await?;
        self.started_at.get_or_init(|| started_at);
        Ok(())
    }
}
