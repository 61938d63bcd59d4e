use std::time::Duration;

use crate::config::Config;
use crate::memory_budget::MemoryBudget;

/// How much memory the streams of an instance may take together, beside what each takes by itself.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How far back a stream can resume.
    pub history: Duration,
    /// About how many bytes the events take that streams resume from.
    pub history_bytes: usize,
    /// How many bytes the snapshots take that are yet to be read, beside one.
    pub snapshot_bytes: usize,
    /// How many bytes the queues of all streams take, beside some KiB for each.
    pub queue_bytes: usize,
    /// How many users all streams are about; those of equal lists count once. Each takes about 150
    /// bytes.
    pub watched_users: usize,
}

impl Limits {
    /// The limits that `memory` allows, with the times and sizes that `config` sets.
    pub fn of(config: &Config, memory: MemoryBudget) -> Self {
        let history_bytes = usize::try_from(config.streams.history_bytes).unwrap_or(usize::MAX);
        Self {
            history: config.streams.history,
            history_bytes: history_bytes.min(memory.recent_events()),
            snapshot_bytes: memory.snapshots(),
            queue_bytes: memory.queues(),
            watched_users: memory.watched_users(),
        }
    }
}
