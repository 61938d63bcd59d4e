//! How the claims are measured: load, readers of streams, the peers, and the report.

pub(crate) mod calls;
pub(crate) mod peers;
pub(crate) mod report;
pub(crate) mod streams;
pub(crate) mod wrk;

use std::time::Duration;

/// Microseconds of `cost` for each of `count` operations.
pub(crate) fn micros_each(cost: Duration, count: u64) -> f64 {
    cost.as_secs_f64() * 1e6 / count as f64
}
