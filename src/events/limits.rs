use std::time::Duration;

use crate::config::Config;
use crate::memory_budget::MemoryBudget;

/// Bounds on the memory that all streams of an instance take together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How far back a client can resume.
    pub history: Duration,
    /// Approximate bytes of the events in the ring.
    pub history_bytes: usize,
    /// Bytes of all snapshots that clients have not read yet, except the newest.
    pub snapshot_bytes: usize,
    /// Bytes of all queues beyond the first 4 KiB of each.
    pub queue_bytes: usize,
    /// Users and groups in the lists of all streams, and members of all watched groups. Equal lists and groups count
    /// once. Each takes about 150 bytes, and a watched group three times as much.
    pub watched_users: usize,
    /// Calls that wait for an event at the same time: half of the requests of HTTP/1 that may be in progress.
    pub waiting_calls: usize,
}

impl Limits {
    /// Returns the limits of this memory budget, with the history that `config` sets.
    pub(crate) fn of(config: &Config, memory: MemoryBudget) -> Self {
        let history_bytes = usize::try_from(config.streams.history_bytes).unwrap_or(usize::MAX);
        Self {
            history: config.streams.history,
            history_bytes: history_bytes.min(memory.recent_events()),
            snapshot_bytes: memory.snapshots(),
            queue_bytes: memory.queues(),
            watched_users: memory.watched_users(),
            waiting_calls: memory.http1_requests() / 2,
        }
    }
}
