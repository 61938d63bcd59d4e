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
    /// A duration from 100ms to 1d. If it does not exceed PRESENCE_PING_INTERVAL, users go offline between two pings.
    #[arg(long, env = "PRESENCE_TTL", value_name = "PRESENCE_TTL", default_value = "60s", value_parser = ttl)]
    pub ttl: Duration,

    /// Longest TTL that a connection may ask for
    ///
    /// A duration from 1s to 1d. If PRESENCE_TTL is longer, it is the maximum.
    #[arg(long, env = "PRESENCE_TTL_MAX", value_name = "PRESENCE_TTL_MAX", default_value = "10m", value_parser = ttl_max)]
    pub ttl_max: Duration,

    /// Time after a disconnect in which a connect cancels it, unless the call says otherwise
    ///
    /// A duration from 0s to 60s. A disconnect of all connections takes effect at once.
    #[arg(long, env = "PRESENCE_DISCONNECT_GRACE", value_name = "PRESENCE_DISCONNECT_GRACE", default_value = "0s", value_parser = disconnect_grace)]
    pub disconnect_grace: Duration,

    /// Ping interval that clients are told to use
    ///
    /// A duration from 10ms to 1d. Usual is a quarter to a half of PRESENCE_TTL.
    #[arg(long, env = "PRESENCE_PING_INTERVAL", value_name = "PRESENCE_PING_INTERVAL", default_value = "25s", value_parser = ping_interval)]
    pub ping_interval: Duration,

    /// Longest time between two sweeps while users are due
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

impl PresenceConfig {
    /// The longest TTL of a connection.
    pub fn longest_ttl(&self) -> Duration {
        self.ttl_max.max(self.ttl)
    }
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            ttl_max: Duration::from_secs(600),
            disconnect_grace: Duration::ZERO,
            ping_interval: Duration::from_secs(25),
            sweep_interval: Duration::from_millis(100),
            last_seen: Duration::from_secs(30 * 86_400),
        }
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "100ms", "1d")
}

fn ttl_max(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "1s", "1d")
}

fn disconnect_grace(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "0s", "60s")
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
