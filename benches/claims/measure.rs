//! Tools of the claims: load, readers of streams, other servers, and the report.

pub(crate) mod calls;
pub(crate) mod machine;
pub(crate) mod peers;
pub(crate) mod report;
pub(crate) mod streams;
pub(crate) mod wrk;

use std::time::Duration;

/// `cost` divided by `count`, in microseconds.
pub(crate) fn micros_each(cost: Duration, count: u64) -> f64 {
    cost.as_secs_f64() * 1e6 / count as f64
}
