//! The rate limits of users.

use std::array;
use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::RateLimit;
use crate::model::UserId;

/// The time between two evictions of idle allowances.
const EVICTION_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of changes of the status of a user per minute by the tokens of the user, unless the limit is off.
const STATUSES_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// The number of locks. An eviction holds one lock at a time, so that a call waits for a fraction of the users only.
const SHARDS: usize = 16;

/// The allowances of all users with a cached token, and of other users until their allowance is full again.
pub(super) struct RateLimits(Option<Allowances>);

struct Allowances {
    calls: Quota,
    disconnects: Quota,
    statuses: Quota,
    clock: DefaultClock,
    hasher: RandomState,
    /// The hash of a user selects its shard.
    shards: [Mutex<Shard>; SHARDS],
}

type Shard = HashMap<UserId, Entry, RandomState>;

struct Entry {
    allowance: Arc<Allowance>,
    /// Since when no cached token holds the allowance.
    idle_since: Option<Instant>,
}

/// The calls that one user may still make. All tokens of the user share one allowance.
pub(super) struct Allowance(Option<Limiters>);

struct Limiters {
    calls: DefaultDirectRateLimiter,
    disconnects: DefaultDirectRateLimiter,
    statuses: DefaultDirectRateLimiter,
}

/// The quota that a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// Any other call.
    Call,
    /// A disconnect. Disconnects have a quota of their own: all tabs of a user may close at once, and a page that
    /// closes cannot retry.
    Disconnect,
    /// A change of a status. Changes have a quota of ten a minute; each also counts as a call.
    Status,
}

impl RateLimits {
    /// Limits by `limit`. `user_connections` is the burst of disconnects: a user can close all connections at once.
    pub(super) fn new(limit: RateLimit, user_connections: NonZeroU32) -> Self {
        let RateLimit::Calls { per_minute, burst } = limit else {
            return Self(None);
        };
        Self(Some(Allowances {
            calls: Quota::per_minute(per_minute).allow_burst(burst),
            disconnects: Quota::per_minute(per_minute).allow_burst(user_connections),
            statuses: Quota::per_minute(STATUSES_PER_MINUTE),
            clock: DefaultClock::default(),
            hasher: RandomState::default(),
            shards: array::from_fn(|_| Mutex::default()),
        }))
    }

    /// The allowance of `user`.
    pub(super) fn allowance(&self, user: &UserId) -> Arc<Allowance> {
        match &self.0 {
            Some(allowances) => allowances.get_or_create(user),
            None => Arc::new(Allowance(None)),
        }
    }

    /// Evicts idle allowances that are full again. Never returns.
    pub(super) async fn run_eviction(&self) {
        let mut ticks = interval(EVICTION_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(allowances) = &self.0 {
                allowances.evict_idle();
            }
        }
    }
}

impl Allowances {
    fn get_or_create(&self, user: &UserId) -> Arc<Allowance> {
        let mut shard = self.shard(user).lock();
        let entry = shard
            .entry(user.clone())
            .or_insert_with(|| self.full_entry());
        entry.idle_since = None;
        Arc::clone(&entry.allowance)
    }

    fn shard(&self, user: &UserId) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(user) as usize;
        &self.shards[hash % SHARDS]
    }

    fn full_entry(&self) -> Entry {
        let limiter = |quota| RateLimiter::direct_with_clock(quota, self.clock.clone());
        let limiters = Limiters {
            calls: limiter(self.calls),
            disconnects: limiter(self.disconnects),
            statuses: limiter(self.statuses),
        };
        Entry {
            allowance: Arc::new(Allowance(Some(limiters))),
            idle_since: None,
        }
    }

    fn evict_idle(&self) {
        let quotas = [self.calls, self.disconnects, self.statuses];
        let refill_times = quotas.map(|quota| quota.burst_size_replenished_in());
        let refill_time = refill_times.into_iter().max().unwrap_or_default();
        let now = Instant::now();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retain(|_, entry| {
                if Arc::strong_count(&entry.allowance) > 1 {
                    entry.idle_since = None;
                    return true;
                }
                now - *entry.idle_since.get_or_insert(now) < refill_time
            });
            shard.shrink_to_fit();
        }
    }
}

impl Allowance {
    /// Takes one call. Fails with the time to wait if the allowance is used up.
    pub(super) fn take(&self, kind: CallKind) -> Result<(), Duration> {
        let Some(limiters) = &self.0 else {
            return Ok(());
        };
        let limiter = match kind {
            CallKind::Call => &limiters.calls,
            CallKind::Disconnect => &limiters.disconnects,
            CallKind::Status => &limiters.statuses,
        };
        limiter
            .check()
            .map_err(|used_up| used_up.wait_time_from(limiter.clock().now()))
    }
}

impl fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimits")
            .field(&self.0.is_some())
            .finish()
    }
}

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Allowance").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two calls per user, which refill in two minutes.
    fn two_calls() -> RateLimits {
        let limit = RateLimit::Calls {
            per_minute: NonZeroU32::MIN,
            burst: NonZeroU32::MIN.saturating_add(1),
        };
        RateLimits::new(limit, NonZeroU32::MIN)
    }

    /// Evicts, and returns the number of allowances that are left.
    fn evict(limits: &RateLimits) -> usize {
        let allowances = limits.0.as_ref().expect("limits");
        allowances.evict_idle();
        allowances
            .shards
            .iter()
            .map(|shard| shard.lock().len())
            .sum()
    }

    fn alice() -> UserId {
        UserId::new("alice").expect("an id")
    }

    #[tokio::test]
    async fn all_tokens_of_a_user_share_one_allowance() {
        let limits = two_calls();
        let (first, second) = (limits.allowance(&alice()), limits.allowance(&alice()));
        assert!(first.take(CallKind::Call).is_ok());
        assert!(second.take(CallKind::Call).is_ok());
        assert!(first.take(CallKind::Call).is_err());
        let bob = UserId::new("bob").expect("an id");
        assert!(limits.allowance(&bob).take(CallKind::Call).is_ok());
    }

    #[tokio::test]
    async fn disconnects_have_a_quota_of_their_own() {
        let limit = "30/m".parse().expect("a rate");
        let connections = NonZeroU32::new(100).expect("not zero");
        let allowance = RateLimits::new(limit, connections).allowance(&alice());
        while allowance.take(CallKind::Call).is_ok() {}
        for closed in 0..100 {
            assert!(allowance.take(CallKind::Disconnect).is_ok(), "{closed}");
        }
        while allowance.take(CallKind::Disconnect).is_ok() {}
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_allowance_is_evicted_once_it_is_full_again() {
        let limits = two_calls();
        let held = limits.allowance(&alice());
        while held.take(CallKind::Call).is_ok() {}
        tokio::time::advance(Duration::from_secs(1_000)).await;
        assert_eq!(evict(&limits), 1, "a token holds the allowance");
        drop(held);
        assert_eq!(evict(&limits), 1, "the allowance is idle from now on");
        tokio::time::advance(Duration::from_secs(119)).await;
        assert_eq!(evict(&limits), 1);
        assert!(limits.allowance(&alice()).take(CallKind::Call).is_err());
        assert_eq!(evict(&limits), 1, "the idle time begins again");
        tokio::time::advance(Duration::from_secs(121)).await;
        assert_eq!(evict(&limits), 0);
    }
}
