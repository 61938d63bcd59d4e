use std::time::Duration;

use crate::config::Config;
use crate::model::{Stated, millis, scaled_interval};
use crate::store::policy::{OUTAGE, SHORTEST_OUTAGE};

/// The settings for expiry and retention.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// How long a connection lives after its last ping.
    pub ttl: Duration,
    /// How often clients of this instance are told to ping.
    pub ping_interval: Duration,
    /// The maximum number of live connections of one user.
    pub user_connections: u32,
    /// The maximum number of members of one group.
    pub group_members: usize,
    /// How long the history keeps an event.
    pub history: Duration,
    /// The maximum size of the history in bytes.
    pub history_bytes: u64,
    /// How long the last-seen time of an offline user is kept; zero keeps none.
    pub last_seen: Duration,
}

impl Lifetimes {
    /// The settings of `config`.
    pub fn of(config: &Config) -> Self {
        Self {
            ttl: config.presence.ttl,
            ping_interval: config.presence.ping_interval,
            user_connections: config.limits.user_connections,
            group_members: config.limits.group_members,
            history: config.streams.history,
            history_bytes: config.streams.history_bytes,
            last_seen: config.presence.last_seen,
        }
    }

    /// The margin: how much later than `ping_interval` a ping may arrive without being missed.
    pub fn margin(ping_interval: Duration) -> Duration {
        (ping_interval / 5).clamp(Duration::from_millis(500), Duration::from_secs(5))
    }

    /// What a connection gets from an instance with these settings.
    pub(super) fn grant(&self, stated: &Stated) -> Grant {
        let ttl = stated.ttl.unwrap_or(self.ttl);
        let interval = scaled_interval(ttl, (self.ttl, self.ping_interval));
        Grant::of(ttl, interval)
    }
}

/// The TTL and the ping interval that a connection received with its last ping. They decide when the connection expires
/// and how long its departure is held after an outage, whatever the settings of other instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// In milliseconds in 32 bits, to save memory for each connection. Neither is longer than a few days.
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

    /// How often the client was told to ping.
    pub(super) fn ping_interval(self) -> Duration {
        Duration::from_millis(self.ping_interval_ms.into())
    }

    /// Whether a time without a sweep is too short to hold departures of connections with this grant.
    ///
    /// The time is too short in two cases: a busy machine can explain it, and it leaves a part of the time between a
    /// missed ping and the deadline; or a client that pings as often as told still pings before its deadline.
    pub(super) fn absorbs(self, outage: Duration) -> bool {
        let interval = self.ping_interval();
        let short = self.ttl().saturating_sub(interval) * 3 / 4;
        outage <= short.clamp(SHORTEST_OUTAGE, OUTAGE)
            || outage + 2 * interval + Lifetimes::margin(interval) <= self.ttl()
    }

    /// The longest time from the end of an outage to the next ping of a client that is alive.
    pub(super) fn hold(self) -> Duration {
        self.ping_interval() + Lifetimes::margin(self.ping_interval())
    }
}
