use std::time::Duration;

use crate::config::Config;

/// The durations that decide when things expire.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// How long a connection lives after its last ping.
    pub ttl: Duration,
    /// How long expiries wait after an outage: one ping interval and a margin.
    pub grace: Duration,
    /// How long an event stays in the history.
    pub history: Duration,
    /// How long the last-seen time of a user who left is kept; zero keeps none.
    pub last_seen: Duration,
}

impl Lifetimes {
    /// The durations that `config` asks for.
    pub fn of(config: &Config) -> Self {
        let margin =
            (config.ping_interval / 5).clamp(Duration::from_millis(500), Duration::from_secs(5));
        Self {
            ttl: config.ttl,
            grace: config.ping_interval + margin,
            history: config.history,
            last_seen: config.last_seen,
        }
    }
}
