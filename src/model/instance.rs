//! What operators see of the instances and of the store.

use super::timestamp::Timestamp;

/// What an instance reports about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceReport {
    /// Names the instance among all that share a store. Another start has another id.
    pub id: String,
    /// The version of the program.
    pub version: String,
    /// When the instance started.
    pub started_at: Timestamp,
    /// The open streams.
    pub streams: u64,
    /// The open client connections.
    pub connections: u64,
    /// When the instance last swept with success, or sent a beat while nothing happened. `None` before its first sweep.
    pub swept_at: Option<Timestamp>,
}

/// The state of the sweeps and of the history, over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSummary {
    /// When the partition whose last sweep was the longest time ago was swept. `None`: a partition was never swept.
    pub swept_at: Option<Timestamp>,
    /// When the first held departure can be announced. `None`: none is held.
    pub held_until: Option<Timestamp>,
    /// The time of the oldest event in the history. `None`: the history is empty.
    pub oldest: Option<Timestamp>,
    /// The time of the newest event in the history. `None`: the history is empty.
    pub newest: Option<Timestamp>,
}
