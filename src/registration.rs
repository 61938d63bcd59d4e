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
use crate::store::{MOST_INSTANCES, REPORT_INTERVAL, Store, StoreError};
use crate::telemetry::Metrics;

/// One report in this many is a full one, which makes the store forget silent instances.
const WHOLE_REPORTS: u64 = 20;

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
        for turn in 0_u64.. {
            let is_brief = !turn.is_multiple_of(WHOLE_REPORTS);
            let Some(reported) = drain.run_until_cancelled(self.report(is_brief)).await else {
                break;
            };
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

    /// All instances, at most 1,000, with this instance as of now, and the state of the store. The report of this
    /// instance may fail: operators see the state of a store that refuses writes.
    pub(crate) async fn overview(&self) -> Result<(Vec<InstanceReport>, StoreSummary), StoreError> {
        let (reported, summary) = tokio::join!(self.report(false), self.store.summary());
        let summary = summary?;
        if let Err(error) = reported {
            debug!(%error, "a report about this instance failed");
        }
        let mut instances = self.store.instances().await?;
        instances.retain(|each| each.id != self.id);
        instances.truncate(MOST_INSTANCES - 1);
        instances.push(self.as_of_now());
        instances.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        Ok((instances, summary))
    }

    /// Reports once.
    async fn report(&self, is_brief: bool) -> Result<(), StoreError> {
        let report = self.as_of_now();
        self.store.report(&report, is_brief).await?;
        self.started_at.get_or_init(|| report.started_at);
        Ok(())
    }

    fn as_of_now(&self) -> InstanceReport {
        let started_at = self.started_at.get().copied().unwrap_or_else(|| {
            let now = self.store.now(Partition::FIRST);
            now.minus(self.started.elapsed())
        });
        InstanceReport {
            id: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            streams: self.metrics.open_streams(),
            connections: self.metrics.open_connections(),
            swept_at: self.metrics.last_sweep(),
        }
    }
}
