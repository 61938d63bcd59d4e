use std::fmt;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::model::Reason;

/// The upper bounds of the latency buckets, in seconds: from a healthy round trip to the time-out.
const LATENCY_BUCKETS: [f64; 11] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0,
];

/// The upper bounds of the lateness buckets, in seconds, with our promise of 250 ms among them.
const LATENESS_BUCKETS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0, 60.0];

/// The operation that nearly every call is.
pub(crate) const PING: &str = "ping";

/// What an instance counts, in a registry of its own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) pings: Counter,
    /// The histogram of `store_seconds` for the operation [`PING`].
    ping_seconds: Histogram,
    transitions: Family<TransitionLabel, Counter>,
    pub(crate) users_online: Gauge<i64, AtomicI64>,
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

/// A connection that is counted as open while this lives.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge<i64, AtomicI64>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let latency = || Histogram::new(LATENCY_BUCKETS);
        let store_seconds = Family::new_with_constructor(latency as fn() -> Histogram);
        let ping = OperationLabel { operation: PING };
        let mut metrics = Self {
            registry: Registry::with_prefix("presence"),
            pings: Counter::default(),
            ping_seconds: store_seconds.get_or_create_owned(&ping),
            transitions: Family::default(),
            users_online: Gauge::default(),
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
        };
        metrics.register();
        metrics.register_access();
        metrics.registry.register(
            "log_lines_dropped",
            "Log lines that the standard error stream did not take in time",
            super::log_lines_dropped(),
        );
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let mut counter =
            |name, help, counter: &Counter| registry.register(name, help, counter.clone());
        counter("pings", "Pings answered", &self.pings);
        counter(
            "streams_cut_off",
            "Streams whose reader did not keep up",
            &self.streams_cut_off,
        );
        counter(
            "events_delivered",
            "Events queued for a stream",
            &self.events_delivered,
        );
        counter("sweeps", "Sweeps made by this instance", &self.sweeps);
        counter(
            "bus_catch_ups",
            "Times the bus read the history",
            &self.bus_catch_ups,
        );
        registry.register(
            "transitions",
            "Transitions decided by a call to or a sweep of this instance",
            self.transitions.clone(),
        );
        registry.register(
            "users_online",
            "Users announced as online, the same on every instance",
            self.users_online.clone(),
        );
        registry.register(
            "connections",
            "Connections open to this instance",
            self.connections.clone(),
        );
        registry.register(
            "streams",
            "Streams open on this instance",
            self.streams.clone(),
        );
        registry.register_with_unit(
            "sweep_lateness",
            "How long after its deadline an expiry was announced",
            Unit::Seconds,
            self.sweep_lateness_seconds.clone(),
        );
        registry.register_with_unit(
            "bus_lag",
            "How long after its announcement an event reached this instance",
            Unit::Seconds,
            self.bus_lag_seconds.clone(),
        );
        registry.register_with_unit(
            "store",
            "How long the store took to answer",
            Unit::Seconds,
            self.store_seconds.clone(),
        );
        registry.register(
            "store_errors",
            "Calls the store failed",
            self.store_errors.clone(),
        );
    }

    fn register_access(&mut self) {
        let registry = &mut self.registry;
        let mut counter =
            |name, help, counter: &Counter| registry.register(name, help, counter.clone());
        counter(
            "tokens_verified",
            "User tokens whose signature was verified, once each while they are remembered",
            &self.tokens_verified,
        );
        counter(
            "credentials_refused",
            "Calls without or with a bad credential",
            &self.credentials_refused,
        );
        counter(
            "calls_limited",
            "Calls of users who called too often",
            &self.calls_limited,
        );
        registry.register(
            "jwks_fetches",
            "Times the published keys were asked for",
            self.jwks_fetches.clone(),
        );
    }

    /// A connection was accepted, which is open until this is dropped.
    pub(crate) fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// A user came online by a call to this instance.
    pub(crate) fn online(&self) {
        self.transition("online");
    }

    /// A user left by a call to this instance.
    pub(crate) fn disconnected(&self) {
        self.transition(Reason::Disconnected.as_str());
    }

    /// A sweep of this instance announced a user `lateness` after its deadline.
    pub(crate) fn expired(&self, lateness: Duration) {
        self.transition(Reason::Expired.as_str());
        self.sweep_lateness_seconds.observe(lateness.as_secs_f64());
    }

    fn transition(&self, kind: &'static str) {
        self.transitions
            .get_or_create(&TransitionLabel { kind })
            .inc();
    }

    /// The store took `duration` to answer. There are so many pings that nothing is looked up for them.
    pub(crate) fn store_answered(&self, operation: &'static str, duration: Duration) {
        let seconds = duration.as_secs_f64();
        match operation {
            PING => self.ping_seconds.observe(seconds),
            _ => {
                let label = OperationLabel { operation };
                self.store_seconds.get_or_create(&label).observe(seconds);
            }
        }
    }

    /// The store failed a call.
    pub(crate) fn store_failed(&self, operation: &'static str) {
        self.store_errors
            .get_or_create(&OperationLabel { operation })
            .inc();
    }

    /// The published keys were asked for.
    pub(crate) fn jwks_fetched(&self, outcome: &'static str) {
        self.jwks_fetches
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
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
