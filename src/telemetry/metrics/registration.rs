//! The names and the descriptions of the metrics.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::{Metrics, ReasonLabel};
use crate::model::Reason;
use crate::telemetry::log::log_lines_dropped;
use crate::telemetry::process::ProcessMetrics;

impl Metrics {
    /// Registers all metrics.
    pub(super) fn register(&mut self) {
        self.register_process();
        self.register_capacity();
        self.register_calls();
        self.register_presence();
        self.register_partitions();
        self.register_streams();
        self.register_store();
        self.register_auth();
        self.register_webhooks();
        self.register_move();
        self.register_log();
    }

    fn register_process(&mut self) {
        let version = ("version", env!("CARGO_PKG_VERSION"));
        self.registry.register(
            "build",
            "The version of this instance",
            Info::new(vec![version]),
        );
        self.process
            .register_collector(Box::new(ProcessMetrics::new()));
    }

    fn register_capacity(&mut self) {
        self.registry.register_with_unit(
            "memory_limit",
            "The memory that this instance divides among its uses",
            Unit::Bytes,
            self.capacity.memory_bytes.clone(),
        );
        self.registry.register(
            "connections_limit",
            "The most open client connections of this instance",
            self.capacity.connections.clone(),
        );
        self.registry.register(
            "streams_limit",
            "The most open event streams of this instance",
            self.capacity.streams.clone(),
        );
    }

    fn register_calls(&mut self) {
        self.counter("pings", "Pings answered", self.pings.clone());
        let requests = Arc::clone(&self.requests);
        self.registry.register_collector(Box::new(requests));
        self.registry.register(
            "connections",
            "Open client connections of this instance",
            self.connections.clone(),
        );
    }

    fn register_presence(&mut self) {
        // A counter that begins at zero shows its first increase.
        for reason in [Reason::Disconnected, Reason::Expired] {
            let reason = reason.as_str();
            self.flaps.get_or_create(&ReasonLabel { reason }).inc_by(0);
        }
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
            "flaps",
            "Users that came online within 60 s of their departure, by its reason; the same on every instance",
            self.flaps.clone(),
        );
        self.registry.register_with_unit(
            "sweep_lateness",
            "Time from the deadline of a user to the announcement of its departure",
            Unit::Seconds,
            self.sweep_lateness_seconds.clone(),
        );
    }

    fn register_partitions(&mut self) {
        self.registry.register(
            "partitions",
            "Partitions of the users",
            self.partitions.clone(),
        );
        self.registry.register(
            "partitions_reachable",
            "Partitions whose last sweep by this instance succeeded",
            self.partitions_reachable.clone(),
        );
        self.nodes.register(&mut self.registry);
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
            "resets",
            "Messages presence.reset to streams and lists of events",
            self.resets.clone(),
        );
        self.registry.register_with_unit(
            "history_age",
            "Age of the oldest event in the memory of this instance, from which a client can resume",
            Unit::Seconds,
            self.history_age_seconds.clone(),
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
}
