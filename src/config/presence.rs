//! The settings of presence: when a user goes offline.

use std::time::Duration;

use clap::Args;

use super::duration;

/// When a user goes offline, and what is kept of the user.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Presence")]
pub struct PresenceConfig {
    /// Time that a connection lives after its last ping
    ///
    /// A duration from 100ms to 1d. Must be longer than PRESENCE_PING_INTERVAL.
    #[arg(long, env = "PRESENCE_TTL", value_name = "PRESENCE_TTL", default_value = "60s", value_parser = ttl)]
    pub ttl: Duration,

    /// Ping interval that clients are told to use
    ///
    /// A duration from 10ms to 1d. Usual is a quarter to a half of PRESENCE_TTL.
    #[arg(long, env = "PRESENCE_PING_INTERVAL", value_name = "PRESENCE_PING_INTERVAL", default_value = "25s", value_parser = ping_interval)]
    pub ping_interval: Duration,

    /// Longest time from the deadline of a user to the sweep that announces its departure
    ///
    /// A duration from 10ms to 10s. A shorter interval makes offline events earlier and costs more CPU.
    #[arg(long, env = "PRESENCE_SWEEP_INTERVAL", value_name = "PRESENCE_SWEEP_INTERVAL", default_value = "100ms", value_parser = sweep_interval)]
    pub sweep_interval: Duration,

    /// Time that lastSeenAt is kept after a user went offline; 0s keeps nothing
    ///
    /// A duration from 0s to 3650d.
    #[arg(long, env = "PRESENCE_LAST_SEEN", value_name = "PRESENCE_LAST_SEEN", default_value = "30d", value_parser = last_seen)]
    pub last_seen: Duration,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            ping_interval: Duration::from_secs(25),
            sweep_interval: Duration::from_millis(100),
            last_seen: Duration::from_secs(30 * 86_400),
        }
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "100ms", "1d")
}

fn ping_interval(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "10ms", "1d")
}

fn sweep_interval(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "10ms", "10s")
}

fn last_seen(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "0s", "3650d")
}
