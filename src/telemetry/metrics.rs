//! The metrics of an instance.

mod registration;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::classic_text::classic_text;
use super::node_metrics::NodeMetrics;
use super::requests::{LATENCY_BUCKETS, Requests, WorkerRequests};
use crate::model::{Reason, Timestamp};

/// The upper bounds of the buckets of lateness, in seconds. The service promises 250 ms.
const LATENESS_BUCKETS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0, 60.0];

/// The text format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The Prometheus text format, version 0.0.4.
    Classic,
    /// The OpenMetrics text format, version 1.0.0.
    OpenMetrics,
}

/// What an instance can hold at most.
#[derive(Debug, Default)]
struct CapacityMetrics {
    memory_bytes: Gauge<i64, AtomicI64>,
    connections: Gauge<i64, AtomicI64>,
    streams: Gauge<i64, AtomicI64>,
}

/// The metrics of an instance.
#[derive(Debug)]
pub struct Metrics {
    /// The metrics of the service.
    registry: Registry,
    /// The metrics of the process, which have standard names without the prefix of the service.
    process: Registry,
    requests: Arc<Requests>,
    capacity: CapacityMetrics,
    pub(crate) pings: Counter,
    transitions: Family<TransitionLabel, Counter>,
    pub(crate) users_online: Gauge<i64, AtomicI64>,
    partitions: Gauge<i64, AtomicI64>,
    pub(crate) partitions_reachable: Gauge<i64, AtomicI64>,
    pub(crate) nodes: NodeMetrics,
    flaps: Family<ReasonLabel, Counter>,
    pub(crate) history_age_seconds: Gauge<f64, AtomicU64>,
    resets: Family<ReasonLabel, Counter>,
    connections: Gauge<i64, AtomicI64>,
    pub(crate) streams: Gauge<i64, AtomicI64>,
    pub(crate) streams_cut_off: Counter,
    pub(crate) events_delivered: Counter,
    sweeps: Counter,
    /// The time of the last sweep or beat, in milliseconds; zero before the first sweep.
    last_sweep: AtomicU64,
    sweep_lateness_seconds: Histogram,
    pub(crate) bus_lag_seconds: Histogram,
    pub(crate) bus_catch_ups: Counter,
    store_seconds: Family<OperationLabel, Histogram, fn() -> Histogram>,
    store_errors: Family<OperationLabel, Counter>,
    pub(crate) tokens_verified: Counter,
    pub(crate) credentials_refused: Counter,
    pub(crate) calls_limited: Counter,
    jwks_fetches: Family<OutcomeLabel, Counter>,
    pub(crate) move_phase: Gauge<i64, AtomicI64>,
    pub(crate) move_missed_writes: Counter,
    pub(crate) move_remaining_seconds: Gauge<i64, AtomicI64>,
    webhook_deliveries: Family<DeliveryLabel, Counter>,
    webhook_backlog_seconds: Family<ReceiverLabel, Gauge<f64, AtomicU64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabel {
    receiver: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReceiverLabel {
    receiver: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransitionLabel {
    kind: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge<i64, AtomicI64>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// New metrics, at zero.
    pub fn new() -> Self {
        let latency = || Histogram::new(LATENCY_BUCKETS);
        let store_seconds = Family::new_with_constructor(latency as fn() -> Histogram);
        let mut metrics = Self {
            registry: Registry::with_prefix("presence"),
            process: Registry::default(),
            requests: Arc::default(),
            capacity: CapacityMetrics::default(),
            pings: Counter::default(),
            transitions: Family::default(),
            users_online: Gauge::default(),
            partitions: Gauge::default(),
            partitions_reachable: Gauge::default(),
            nodes: NodeMetrics::default(),
            flaps: Family::default(),
            history_age_seconds: Gauge::default(),
            resets: Family::default(),
            connections: Gauge::default(),
            streams: Gauge::default(),
            streams_cut_off: Counter::default(),
            events_delivered: Counter::default(),
            sweeps: Counter::default(),
            last_sweep: AtomicU64::default(),
            sweep_lateness_seconds: Histogram::new(LATENESS_BUCKETS),
            bus_lag_seconds: Histogram::new(LATENESS_BUCKETS),
            bus_catch_ups: Counter::default(),
            store_seconds,
            store_errors: Family::default(),
            tokens_verified: Counter::default(),
            credentials_refused: Counter::default(),
            calls_limited: Counter::default(),
            jwks_fetches: Family::default(),
            move_phase: Gauge::default(),
            move_missed_writes: Counter::default(),
            move_remaining_seconds: Gauge::default(),
            webhook_deliveries: Family::default(),
            webhook_backlog_seconds: Family::default(),
        };
        metrics.register();
        metrics
    }

    /// Counts a connection as open until the returned value is dropped.
    pub(crate) fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Sets what this instance can hold at most: bytes of memory, client connections, event streams.
    pub(crate) fn set_capacity(&self, memory: u64, connections: u32, streams: usize) {
        self.capacity.memory_bytes.set(memory.cast_signed());
        self.capacity.connections.set(connections.into());
        self.capacity.streams.set(count(streams));
    }

    /// Sets the number of partitions of the users.
    pub(crate) fn set_partitions(&self, partitions: usize) {
        self.partitions.set(count(partitions));
    }

    /// The counts of a worker whose requests have these routes.
    pub(crate) fn requests_of_worker(&self, routes: Arc<[String]>) -> Arc<WorkerRequests> {
        self.requests.of_worker(routes)
    }

    /// Counts a user that came online soon after a departure with this reason.
    pub(crate) fn flapped(&self, reason: Reason) {
        let reason = reason.as_str();
        self.flaps.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a `presence.reset`.
    pub(crate) fn stream_reset(&self, reason: &'static str) {
        self.resets.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// The time of the last sweep or beat of this instance.
    pub(crate) fn last_sweep(&self) -> Option<Timestamp> {
        let at = self.last_sweep.load(Ordering::Relaxed);
        (at > 0).then(|| Timestamp::from_millis(at))
    }

    /// The number of open client connections.
    pub(crate) fn open_connections(&self) -> u64 {
        u64::try_from(self.connections.get()).unwrap_or_default()
    }

    /// The number of open streams.
    pub(crate) fn open_streams(&self) -> u64 {
        u64::try_from(self.streams.get()).unwrap_or_default()
    }

    /// Counts a user that a call to this instance brought online.
    pub(crate) fn online(&self) {
        self.transition("online");
    }

    /// Counts a user that a call to this instance took offline.
    pub(crate) fn disconnected(&self) {
        self.transition(Reason::Disconnected.as_str());
    }

    /// Counts a sweep of one partition by this instance, and the departures that it announced. `lateness_ms` has the
    /// lateness of each departure. The first `left` of the users had disconnected with a grace period.
    pub(crate) fn swept(&self, at: Timestamp, left: usize, lateness_ms: &[u64]) {
        self.sweeps.inc();
        self.last_sweep.store(at.as_millis(), Ordering::Relaxed);
        for (place, lateness_ms) in lateness_ms.iter().enumerate() {
            let reason = if place < left {
                Reason::Disconnected
            } else {
                Reason::Expired
            };
            self.transition(reason.as_str());
            let lateness = Duration::from_millis(*lateness_ms);
            self.sweep_lateness_seconds.observe(lateness.as_secs_f64());
        }
    }

    fn transition(&self, kind: &'static str) {
        self.transitions
            .get_or_create(&TransitionLabel { kind })
            .inc();
    }

    /// Records the response time of the store.
    pub(crate) fn store_answered(&self, operation: &'static str, duration: Duration) {
        let label = OperationLabel { operation };
        let seconds = duration.as_secs_f64();
        self.store_seconds.get_or_create(&label).observe(seconds);
    }

    /// Counts a failed call of the store.
    pub(crate) fn store_failed(&self, operation: &'static str) {
        self.store_errors
            .get_or_create(&OperationLabel { operation })
            .inc();
    }

    /// Counts a fetch of the JWK set.
    pub(crate) fn jwks_fetched(&self, outcome: &'static str) {
        self.jwks_fetches
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// Counts an attempt to deliver a webhook.
    pub(crate) fn webhook_delivered(&self, receiver: &str, outcome: &'static str) {
        let receiver = receiver.to_owned();
        let label = DeliveryLabel { receiver, outcome };
        self.webhook_deliveries.get_or_create(&label).inc();
    }

    /// Records the age of the oldest event that a receiver does not have.
    pub(crate) fn webhook_backlog(&self, receiver: &str, age: Duration) {
        let receiver = receiver.to_owned();
        let label = ReceiverLabel { receiver };
        let gauge = self.webhook_backlog_seconds.get_or_create(&label);
        gauge.set(age.as_secs_f64());
    }

    /// All metrics as text. Reads the files of the system about this process.
    pub fn render(&self, format: MetricsFormat) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &self.process)?;
        encode_eof(&mut text)?;
        Ok(match format {
            MetricsFormat::OpenMetrics => text,
            MetricsFormat::Classic => classic_text(&text),
        })
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
