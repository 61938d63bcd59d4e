use std::time::Duration;

use crate::config::Config;
use crate::model::millis;
use crate::store::{OUTAGE, SHORTEST_OUTAGE};

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
            ttl: config.presence.ttl,
            ping_interval: config.presence.ping_interval,
            user_connections: config.limits.user_connections,
            history: config.streams.history,
            history_bytes: config.streams.history_bytes,
            last_seen: config.presence.last_seen,
        }
    }

    /// How much later than `ping_interval` a ping may arrive without being missed.
    pub fn margin(ping_interval: Duration) -> Duration {
        (ping_interval / 5).clamp(Duration::from_millis(500), Duration::from_secs(5))
    }

    /// What a connection is granted by an instance with these settings.
    pub(super) fn grant(&self) -> Grant {
        Grant::of(self.ttl, self.ping_interval)
    }
}

/// What a connection was granted with its last ping. It decides when the connection expires and
/// how long that waits after an outage, whatever settings others have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// In milliseconds, since there is one per connection and neither is longer than a few days.
    ttl_ms: u32,
    ping_interval_ms: u32,
}

impl Grant {
    pub(super) fn of(ttl: Duration, ping_interval: Duration) -> Self {
        let narrow = |duration| u32::try_from(millis(duration)).unwrap_or(u32::MAX);
        Self {
            ttl_ms: narrow(ttl),
            ping_interval_ms: narrow(ping_interval),
        }
    }

    /// How long the connection lives after its last ping.
    pub(super) fn ttl(self) -> Duration {
        Duration::from_millis(self.ttl_ms.into())
    }

    fn ping_interval(self) -> Duration {
        Duration::from_millis(self.ping_interval_ms.into())
    }

    /// Whether so long without a sweep holds no departure: because a busy machine explains it and it
    /// leaves some of the time between a missed ping and the deadline, or because a client that pings
    /// as often as it was told gets a ping through in time.
    pub(super) fn absorbs(self, outage: Duration) -> bool {
        let interval = self.ping_interval();
        let short = self.ttl().saturating_sub(interval) * 3 / 4;
        outage <= short.clamp(SHORTEST_OUTAGE, OUTAGE)
            || outage + 2 * interval + Lifetimes::margin(interval) <= self.ttl()
    }

    /// How long after an outage the client has pinged, if it is alive.
    pub(super) fn hold(self) -> Duration {
        self.ping_interval() + Lifetimes::margin(self.ping_interval())
    }
}
