//! The metrics about each master of a Redis Cluster.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// What the sweeps of an instance found at each master.
#[derive(Debug, Default)]
pub(crate) struct NodeMetrics {
    reachable: Family<NodeLabel, Gauge<i64, AtomicI64>>,
    overdue: Family<NodeLabel, Gauge<i64, AtomicI64>>,
    swept_age: Family<NodeLabel, Gauge<f64, AtomicU64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabel {
    node: String,
}

impl NodeMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "node_reachable",
            "Whether the last sweep of each partition on the master succeeded",
            self.reachable.clone(),
        );
        registry.register(
            "node_overdue_users",
            "Users on the master whose deadline had passed at the last sweep",
            self.overdue.clone(),
        );
        registry.register_with_unit(
            "node_swept_age",
            "Time since the last sweep of the partition on the master whose last sweep is the oldest",
            Unit::Seconds,
            self.swept_age.clone(),
        );
    }

    /// Records the last sweeps of the master at an address.
    pub(crate) fn note(&self, node: &str, is_reachable: bool, overdue: u64, swept_age: Duration) {
        let label = NodeLabel {
            node: node.to_owned(),
        };
        let reachable = self.reachable.get_or_create(&label);
        reachable.set(i64::from(is_reachable));
        let overdue = i64::try_from(overdue).unwrap_or(i64::MAX);
        self.overdue.get_or_create(&label).set(overdue);
        let swept_age = swept_age.as_secs_f64();
        self.swept_age.get_or_create(&label).set(swept_age);
    }

    /// Forgets a master that serves no partition any more.
    pub(crate) fn forget(&self, node: &str) {
        let label = NodeLabel {
            node: node.to_owned(),
        };
        self.reachable.remove(&label);
        self.overdue.remove(&label);
        self.swept_age.remove(&label);
    }
}
