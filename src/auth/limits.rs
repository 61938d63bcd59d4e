//! How often a user may call.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::RateLimit;
use crate::model::UserId;

/// How often allowances are looked for that may be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// The allowances of users: of those whose tokens are remembered, and of others until theirs are whole again.
pub(super) struct Limits(Option<Rule>);

struct Rule {
    calls: Quota,
    disconnects: Quota,
    clock: DefaultClock,
    allowances: DashMap<UserId, Kept, RandomState>,
}

struct Kept {
    allowance: Arc<Allowance>,
    /// Since when no token is known that has it.
    released: Option<Instant>,
}

/// What one user may still do, whichever of its tokens it uses.
pub(super) struct Allowance(Option<Limiters>);

struct Limiters {
    calls: DefaultDirectRateLimiter,
    disconnects: DefaultDirectRateLimiter,
}

/// What a call is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// An ordinary call.
    Call,
    /// A disconnect, which has an allowance of its own: the tabs of a user may close all at once, and a page that
    /// closes cannot try again.
    Disconnect,
}

impl Limits {
    /// `user_connections` of a user may be open, so as many may be closed at once.
    pub(super) fn new(limit: RateLimit, user_connections: NonZeroU32) -> Self {
        let RateLimit::Calls { per_minute, burst } = limit else {
            return Self(None);
        };
        Self(Some(Rule {
            calls: Quota::per_minute(per_minute).allow_burst(burst),
            disconnects: Quota::per_minute(per_minute).allow_burst(user_connections),
            clock: DefaultClock::default(),
            allowances: DashMap::default(),
        }))
    }

    /// The allowance of `user`, the same for all of its tokens.
    pub(super) fn of(&self, user: &UserId) -> Arc<Allowance> {
        let Some(rule) = &self.0 else {
            return Arc::new(Allowance(None));
        };
        let mut kept = rule.allowances.entry(user.clone()).or_insert_with(|| {
            let limiter = |quota| RateLimiter::direct_with_clock(quota, rule.clock.clone());
            let limiters = Limiters {
                calls: limiter(rule.calls),
                disconnects: limiter(rule.disconnects),
            };
            Kept {
                allowance: Arc::new(Allowance(Some(limiters))),
                released: None,
            }
        });
        kept.released = None;
        Arc::clone(&kept.allowance)
    }

    /// Keeps the memory small, for as long as the service runs.
    pub(super) async fn forget_the_whole(&self) {
        let mut ticks = interval(FORGET_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(rule) = &self.0 {
                rule.forget_the_whole();
            }
        }
    }
}

impl Rule {
    fn forget_the_whole(&self) {
        let now = Instant::now();
        let quotas = [self.calls, self.disconnects];
        let until_whole = quotas.map(|quota| quota.burst_size_replenished_in());
        let until_whole = until_whole.into_iter().max().unwrap_or_default();
        self.allowances.retain(|_, kept| {
            if Arc::strong_count(&kept.allowance) > 1 {
                kept.released = None;
                return true;
            }
            now - *kept.released.get_or_insert(now) < until_whole
        });
        self.allowances.shrink_to_fit();
    }
}

impl Allowance {
    /// Takes one call out of it; says how long to wait where it is used up.
    pub(super) fn take(&self, counted: Counted) -> Result<(), Duration> {
        let Some(limiters) = &self.0 else {
            return Ok(());
        };
        let limiter = match counted {
            Counted::Call => &limiters.calls,
            Counted::Disconnect => &limiters.disconnects,
        };
        limiter
            .check()
            .map_err(|used_up| used_up.wait_time_from(limiter.clock().now()))
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limits").field(&self.0.is_some()).finish()
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

    /// Allowances of two calls, which are whole again after two minutes.
    fn rule() -> Limits {
        let limit = RateLimit::Calls {
            per_minute: NonZeroU32::MIN,
            burst: NonZeroU32::MIN.saturating_add(1),
        };
        Limits::new(limit, NonZeroU32::MIN)
    }

    fn forget(limits: &Limits) -> usize {
        let rule = limits.0.as_ref().expect("limits");
        rule.forget_the_whole();
        rule.allowances.len()
    }

    fn alice() -> UserId {
        UserId::new("alice").expect("an id")
    }

    #[tokio::test]
    async fn all_tokens_of_a_user_share_one_allowance() {
        let limits = rule();
        let (first, second) = (limits.of(&alice()), limits.of(&alice()));
        assert!(first.take(Counted::Call).is_ok());
        assert!(second.take(Counted::Call).is_ok());
        assert!(first.take(Counted::Call).is_err());
        let bob = UserId::new("bob").expect("an id");
        assert!(limits.of(&bob).take(Counted::Call).is_ok());
    }

    #[tokio::test]
    async fn disconnects_are_counted_apart() {
        let limit = "30/m".parse().expect("a rate");
        let connections = NonZeroU32::new(100).expect("not zero");
        let allowance = Limits::new(limit, connections).of(&alice());
        while allowance.take(Counted::Call).is_ok() {}
        for closed in 0..100 {
            assert!(allowance.take(Counted::Disconnect).is_ok(), "{closed}");
        }
        while allowance.take(Counted::Disconnect).is_ok() {}
    }

    #[tokio::test(start_paused = true)]
    async fn an_allowance_is_kept_until_it_is_whole_again() {
        let limits = rule();
        let held = limits.of(&alice());
        while held.take(Counted::Call).is_ok() {}
        tokio::time::advance(Duration::from_secs(1_000)).await;
        assert_eq!(forget(&limits), 1, "it is held");
        drop(held);
        assert_eq!(forget(&limits), 1, "it was released only now");
        tokio::time::advance(Duration::from_secs(119)).await;
        assert_eq!(forget(&limits), 1);
        assert!(limits.of(&alice()).take(Counted::Call).is_err());
        assert_eq!(forget(&limits), 1, "it was held again meanwhile");
        tokio::time::advance(Duration::from_secs(121)).await;
        assert_eq!(forget(&limits), 0);
    }
}
