use std::time::Duration;

use crate::config::Config;

/// The settings that decide when things expire and how much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// How long a connection lives after its last ping.
    pub ttl: Duration,
    /// How often the clients of this instance are told to ping.
    pub ping_interval: Duration,
    /// The most live connections of one user.
    pub user_connections: u32,
    /// How long an event stays in the history.
    pub history: Duration,
    /// The most bytes of the history, which is trimmed by time first.
    pub history_bytes: u64,
    /// How long the last-seen time of a user who left is kept; zero keeps none.
    pub last_seen: Duration,
}

impl Lifetimes {
    /// The settings of `config`.
    pub fn of(config: &Config) -> Self {
        Self {
            ttl: config.ttl,
            ping_interval: config.ping_interval,
            user_connections: config.user_connections,
            history: config.history,
            history_bytes: config.history_bytes,
            last_seen: config.last_seen,
        }
    }

    /// How much later than `ping_interval` a ping may arrive without being missed.
    pub fn margin(ping_interval: Duration) -> Duration {
        (ping_interval / 5).clamp(Duration::from_millis(500), Duration::from_secs(5))
    }
}
