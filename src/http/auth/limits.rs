//! How often a user may call.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

use crate::config::RateLimit;
use crate::presence::UserId;

/// From how many users on those are looked for whose allowance nobody holds any more.
const WORTH_A_LOOK: usize = 1_000;

/// The allowances of the users whose tokens are remembered: memory is held for as long as those are.
pub(super) struct Limits {
    quota: Option<Quota>,
    held: Mutex<Held>,
}

struct Held {
    allowances: HashMap<UserId, Weak<Allowance>, RandomState>,
    /// With how many users it is looked through next: twice as many as the last look left.
    look_at: usize,
}

/// What one user may still do, whichever of its tokens it uses.
pub(super) struct Allowance(Option<DefaultDirectRateLimiter>);

impl Limits {
    pub(super) fn new(limit: RateLimit) -> Self {
        let quota = match limit {
            RateLimit::Off => None,
            RateLimit::Calls { per_minute, burst } => {
                Some(Quota::per_minute(per_minute).allow_burst(burst))
            }
        };
        let held = Held {
            allowances: HashMap::default(),
            look_at: WORTH_A_LOOK,
        };
        Self {
            quota,
            held: Mutex::new(held),
        }
    }

    /// The allowance of `user`, the same for everyone who asks while anyone holds it.
    pub(super) fn of(&self, user: &UserId) -> Arc<Allowance> {
        let Some(quota) = self.quota else {
            return Arc::new(Allowance(None));
        };
        let mut held = self.held.lock();
        if let Some(allowance) = held.allowances.get(user).and_then(Weak::upgrade) {
            return allowance;
        }
        let allowance = Arc::new(Allowance(Some(RateLimiter::direct(quota))));
        let weak = Arc::downgrade(&allowance);
        held.allowances.insert(user.clone(), weak);
        if held.allowances.len() >= held.look_at {
            held.forget_the_released();
        }
        allowance
    }
}

impl Held {
    fn forget_the_released(&mut self) {
        self.allowances
            .retain(|_, allowance| allowance.strong_count() > 0);
        self.look_at = WORTH_A_LOOK.max(self.allowances.len() * 2);
        self.allowances.shrink_to(self.look_at);
    }
}

impl Allowance {
    /// Takes one call out of it; says how long to wait where it is used up.
    pub(super) fn take(&self) -> Result<(), Duration> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        limiter
            .check()
            .map_err(|used_up| used_up.wait_time_from(limiter.clock().now()))
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limits").field(&self.quota).finish()
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

    fn user(number: usize) -> UserId {
        UserId::new(&format!("user-{number}")).expect("an id")
    }

    #[test]
    fn a_user_has_one_allowance_while_anyone_holds_it() {
        let limits = Limits::new(RateLimit::default());
        let first = limits.of(&user(1));
        while first.take().is_ok() {}
        assert!(limits.of(&user(1)).take().is_err());
        assert!(limits.of(&user(2)).take().is_ok());
        drop(first);
        assert!(limits.of(&user(1)).take().is_ok());
    }

    #[test]
    fn allowances_that_nobody_holds_take_no_memory() {
        let limits = Limits::new(RateLimit::default());
        let held = limits.of(&user(0));
        for number in 0..10 * WORTH_A_LOOK {
            limits.of(&user(number));
        }
        assert!(limits.held.lock().allowances.len() < 2 * WORTH_A_LOOK);
        assert!(Arc::ptr_eq(&held, &limits.of(&user(0))));
    }
}
