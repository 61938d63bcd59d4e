use std::time::Duration;

use crate::config::Config;

const MIB: usize = 1_024 * 1_024;

/// How much memory the streams of an instance may take together, beside what each takes by itself.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How far back a stream can resume.
    pub history: Duration,
    /// About how many bytes the events take that streams resume from.
    pub history_bytes: usize,
    /// How many bytes the snapshots take that are yet to be read, beside one.
    pub snapshot_bytes: usize,
    /// How many users all streams are about; those of equal lists count once. Each takes about 150
    /// bytes.
    pub watched_users: usize,
}

impl Limits {
    /// The usual limits, with the times that `config` sets.
    pub fn of(config: &Config) -> Self {
        Self {
            history: config.history,
            history_bytes: 64 * MIB,
            snapshot_bytes: 64 * MIB,
            watched_users: 1_000_000,
        }
    }
}
