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

    /// The shortest TTL with which a connection of an instance with these settings absorbs every stall of this length,
    /// which is from [`SHORTEST_OUTAGE`] to [`OUTAGE`].
    pub(super) fn ttl_that_absorbs(&self, stall: Duration) -> Duration {
        let (ttl, interval) = (millis(self.ttl), millis(self.ping_interval));
        // A grant absorbs three quarters of TTL minus ping interval, and the interval has a constant share of the TTL.
        let needed = 4 * millis(stall) * ttl;
        Duration::from_millis(needed.div_ceil(3 * ttl.saturating_sub(interval).max(1)))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lifetimes(ttl: Duration, ping_interval: Duration) -> Lifetimes {
        Lifetimes {
            ttl,
            ping_interval,
            user_connections: 100,
            group_members: 10_000,
            history: Duration::from_secs(300),
            history_bytes: 1_000_000,
            last_seen: Duration::ZERO,
        }
    }

    proptest! {
        #[test]
        fn a_connection_with_a_long_ttl_absorbs_the_stall(
            ttl in 100_u64..86_400_000,
            share in 0.001..0.999,
            stall in 500_u64..=1_500,
            longer in 0_u64..100_000,
        ) {
            let interval = ((ttl as f64 * share) as u64).max(1);
            let [ttl, interval, stall, longer] = [ttl, interval, stall, longer].map(Duration::from_millis);
            let lifetimes = lifetimes(ttl, interval);
            let stated = Stated {
                ttl: Some(lifetimes.ttl_that_absorbs(stall) + longer),
                ..Stated::default()
            };
            prop_assert!(lifetimes.grant(&stated).absorbs(stall));
        }
    }

    #[test]
    fn the_share_of_the_interval_decides() {
        let stall = Duration::from_millis(1_200);
        let needed = |ttl, interval| {
            let lifetimes = lifetimes(Duration::from_secs(ttl), Duration::from_secs(interval));
            lifetimes.ttl_that_absorbs(stall).as_millis()
        };
        assert_eq!(
            (needed(60, 25), needed(60, 30), needed(60, 59)),
            (2_743, 3_200, 96_000)
        );
    }
}
