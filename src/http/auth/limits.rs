//! How often a user may call.

use std::fmt;
use std::time::Duration;

use foldhash::fast::RandomState;
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::RateLimit;
use crate::presence::UserId;

/// How often users whose allowance is whole again are forgotten: memory is held for those only who
/// called within about this time and had a valid token.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// The allowance of each user who called lately.
pub(super) struct Limits(Option<Limiter>);

type Limiter = RateLimiter<UserId, DashMapStateStore<UserId, RandomState>, DefaultClock>;

impl Limits {
    pub(super) fn new(limit: RateLimit) -> Self {
        let RateLimit::Calls { per_minute, burst } = limit else {
            return Self(None);
        };
        let quota = Quota::per_minute(per_minute).allow_burst(burst);
        Self(Some(Limiter::dashmap_with_hasher(
            quota,
            RandomState::default(),
        )))
    }

    /// Takes one call out of the allowance of `user`; says how long to wait where it is used up.
    pub(super) fn take(&self, user: &UserId) -> Result<(), Duration> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        limiter
            .check_key(user)
            .map_err(|used_up| used_up.wait_time_from(limiter.clock().now()))
    }

    /// Keeps the memory small, for as long as the service runs.
    pub(super) async fn forget_the_idle(&self) {
        let mut ticks = interval(FORGET_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(limiter) = &self.0 {
                limiter.retain_recent();
                limiter.shrink_to_fit();
            }
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limits").field(&self.0.is_some()).finish()
    }
}
