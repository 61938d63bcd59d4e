//! The metrics of an instance.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::log::log_lines_dropped;
use crate::model::Reason;

/// The upper bounds of the buckets of response times, in seconds: from a fast round trip to the time-out.
const LATENCY_BUCKETS: [f64; 11] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0,
];

/// The upper bounds of the buckets of lateness, in seconds. The service promises 250 ms.
const LATENESS_BUCKETS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0, 60.0];

/// The metrics of an instance, in a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) pings: Counter,
    transitions: Family<TransitionLabel, Counter>,
    pub(crate) users_online: Gauge<i64, AtomicI64>,
    pub(crate) partitions_reachable: Gauge<i64, AtomicI64>,
    connections: Gauge<i64, AtomicI64>,
    pub(crate) streams: Gauge<i64, AtomicI64>,
    pub(crate) streams_cut_off: Counter,
    pub(crate) events_delivered: Counter,
    pub(crate) sweeps: Counter,
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
            pings: Counter::default(),
            transitions: Family::default(),
            users_online: Gauge::default(),
            partitions_reachable: Gauge::default(),
            connections: Gauge::default(),
            streams: Gauge::default(),
            streams_cut_off: Counter::default(),
            events_delivered: Counter::default(),
            sweeps: Counter::default(),
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
        metrics.register_calls();
        metrics.register_presence();
        metrics.register_streams();
        metrics.register_store();
        metrics.register_auth();
        metrics.register_webhooks();
        metrics.register_move();
        metrics.register_log();
        metrics
    }

    fn register_calls(&mut self) {
        self.counter("pings", "Pings answered", self.pings.clone());
        self.registry.register(
            "connections",
            "Open client connections of this instance",
            self.connections.clone(),
        );
    }

    fn register_presence(&mut self) {
        self.counter("sweeps", "Sweeps of this instance", self.sweeps.clone());
        self.registry.register(
            "transitions",
            "Transitions caused by calls to this instance and by its sweeps",
            self.transitions.clone(),
        );
        self.registry.register(
            "users_online",
            "Announced users, the same on every instance",
            self.users_online.clone(),
        );
        self.registry.register(
            "partitions_reachable",
            "Partitions whose last sweep by this instance succeeded",
            self.partitions_reachable.clone(),
        );
        self.registry.register_with_unit(
            "sweep_lateness",
            "Time from the deadline of a user to the announcement of its departure",
            Unit::Seconds,
            self.sweep_lateness_seconds.clone(),
        );
    }

    fn register_streams(&mut self) {
        self.counter(
            "streams_cut_off",
            "Streams ended because their reader was too slow",
            self.streams_cut_off.clone(),
        );
        self.counter(
            "events_delivered",
            "Events queued for a stream",
            self.events_delivered.clone(),
        );
        self.counter(
            "bus_catch_ups",
            "Reads of the history by the bus",
            self.bus_catch_ups.clone(),
        );
        self.registry.register(
            "streams",
            "Open event streams of this instance",
            self.streams.clone(),
        );
        self.registry.register_with_unit(
            "bus_lag",
            "Time from the announcement of an event to its arrival at this instance",
            Unit::Seconds,
            self.bus_lag_seconds.clone(),
        );
    }

    fn register_store(&mut self) {
        self.registry.register_with_unit(
            "store",
            "Response time of the store",
            Unit::Seconds,
            self.store_seconds.clone(),
        );
        self.registry.register(
            "store_errors",
            "Failed calls of the store",
            self.store_errors.clone(),
        );
    }

    fn register_auth(&mut self) {
        self.counter(
            "tokens_verified",
            "Tokens whose signature was verified; a cached token is not verified again",
            self.tokens_verified.clone(),
        );
        self.counter(
            "credentials_refused",
            "Calls with a missing or invalid credential",
            self.credentials_refused.clone(),
        );
        self.counter(
            "calls_limited",
            "Calls refused by the rate limit",
            self.calls_limited.clone(),
        );
        self.registry.register(
            "jwks_fetches",
            "Fetches of the JWK set",
            self.jwks_fetches.clone(),
        );
    }

    fn register_webhooks(&mut self) {
        self.registry.register(
            "webhook_deliveries",
            "Attempts to deliver a webhook",
            self.webhook_deliveries.clone(),
        );
        self.registry.register_with_unit(
            "webhook_backlog",
            "Age of the oldest event that a receiver does not have, on the instance that sends to it",
            Unit::Seconds,
            self.webhook_backlog_seconds.clone(),
        );
    }

    fn register_move(&mut self) {
        self.registry.register(
            "move_phase",
            "0: no move, 1: both stores are written, 2: the next store answers, 3: only the next store is written",
            self.move_phase.clone(),
        );
        self.counter(
            "move_missed_writes",
            "Writes of this instance that did not reach the next store",
            self.move_missed_writes.clone(),
        );
        self.registry.register_with_unit(
            "move_remaining",
            "How long all writes of all instances must still reach the next store",
            Unit::Seconds,
            self.move_remaining_seconds.clone(),
        );
    }

    fn register_log(&mut self) {
        self.counter(
            "log_lines_dropped",
            "Log lines dropped because the standard error stream was blocked",
            log_lines_dropped(),
        );
    }

    fn counter(&mut self, name: &str, help: &str, counter: Counter) {
        self.registry.register(name, help, counter);
    }

    /// Counts a connection as open until the returned value is dropped.
    pub(crate) fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Counts a user that a call to this instance brought online.
    pub(crate) fn online(&self) {
        self.transition("online");
    }

    /// Counts a user that a call to this instance took offline.
    pub(crate) fn disconnected(&self) {
        self.transition(Reason::Disconnected.as_str());
    }

    /// Counts the users that a sweep of this instance took offline, each some ms after the deadline. `left` of them had
    /// disconnected with a grace period.
    pub(crate) fn departed(&self, left: usize, lateness_ms: &[u64]) {
        for (place, lateness_ms) in lateness_ms.iter().enumerate() {
            let reason = match place < left {
                true => Reason::Disconnected,
                false => Reason::Expired,
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

    /// All metrics in the OpenMetrics text format.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
