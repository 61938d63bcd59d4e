//! What tokens may cost that nobody signed.
//!
//! A token that is not remembered costs a check of its signature, which takes as long as a ping or several. So those
//! checks that fail get a tenth of one core in all; while they take more, tokens that are not remembered wait for
//! their turn. TokenCache that are good cost nothing of this, so that many users can come at once.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

use super::authenticator::Digest;
use crate::http::error::Error;

/// For each moment that failed checks took, this many moments pass until it is paid for.
const DEBT_FACTOR: u32 = 10;

/// How much may be debt before anybody waits.
const MAX_DEBT: Duration = Duration::from_secs(1);

/// The most that one check is charged with. Where it seems to take longer, the system had the thread wait.
const MAX_CHARGE: Duration = Duration::from_millis(5);

/// How many tokens may wait for their turn, and how long each: a call is to be answered within two seconds.
const MAX_WAITING: usize = 1_024;
const MAX_WAIT: Duration = Duration::from_millis(1_800);

/// How many refused tokens are remembered, at about 100 bytes each, and for how long.
const MAX_REMEMBERED_REFUSALS: usize = 4_096;
const REFUSAL_TTL: Duration = Duration::from_secs(10);

/// Bounds the cost of checks.
pub(super) struct VerificationBudget {
    /// When everything that failed checks took will be paid for.
    debt_free_at: Mutex<Instant>,
    /// One permit: who has it waits until enough is paid for, and the others wait for it in their order.
    turn: Semaphore,
    /// A permit for each token that may wait.
    waiting: Semaphore,
    refused: Cache<Digest, Refusal>,
}

/// When a token was refused, and by which set of keys.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    at: Instant,
    keys: u64,
}

/// The leave to check a token.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    budget: &'a VerificationBudget,
    /// Given back once it is known what the check cost.
    _turn: Option<SemaphorePermit<'a>>,
}

impl fmt::Debug for VerificationBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationBudget")
            .field("refused", &self.refused.len())
            .finish_non_exhaustive()
    }
}

impl VerificationBudget {
    pub(super) fn new() -> Self {
        Self {
            debt_free_at: Mutex::new(Instant::now()),
            turn: Semaphore::new(1),
            waiting: Semaphore::new(MAX_WAITING),
            refused: Cache::new(MAX_REMEMBERED_REFUSALS),
        }
    }

    /// Waits until a token may be checked. Fails where too many wait.
    pub(super) async fn acquire(&self) -> Result<Permit<'_>, Error> {
        let turn = match self.time_until_affordable() {
            None => None,
            Some(_) => Some(self.wait_in_queue().await?),
        };
        Ok(Permit {
            budget: self,
            _turn: turn,
        })
    }

    async fn wait_in_queue(&self) -> Result<SemaphorePermit<'_>, Error> {
        let _waiting = self
            .waiting
            .try_acquire()
            .map_err(|_| Error::TooManyTokens)?;
        let turn = async {
            let turn = self.turn.acquire().await.ok()?;
            while let Some(wait) = self.time_until_affordable() {
                sleep(wait).await;
            }
            Some(turn)
        };
        let turn = timeout(MAX_WAIT, turn).await;
        turn.ok().flatten().ok_or(Error::TooManyTokens)
    }

    /// How long it takes until so much is paid for that a token may be checked; none where that is so now.
    fn time_until_affordable(&self) -> Option<Duration> {
        let debt = self
            .debt_free_at
            .lock()
            .saturating_duration_since(Instant::now());
        debt.checked_sub(MAX_DEBT).filter(|wait| !wait.is_zero())
    }

    /// Whether this token was refused a moment ago by the same keys.
    pub(super) fn is_refused(&self, digest: &Digest, keys: u64) -> bool {
        let refusal = self.refused.get(digest);
        refusal.is_some_and(|refusal| refusal.keys == keys && refusal.at.elapsed() < REFUSAL_TTL)
    }

    /// Remembers a token that was signed by none of the keys.
    pub(super) fn refuse(&self, digest: Digest, keys: u64) {
        let at = Instant::now();
        self.refused.insert(digest, Refusal { at, keys });
    }
}

impl Permit<'_> {
    /// Takes note of what a check cost that failed.
    pub(super) fn charge(self, cost: Duration) {
        let mut debt_free_at = self.budget.debt_free_at.lock();
        let from = Instant::now().max(*debt_free_at);
        *debt_free_at = from + cost.min(MAX_CHARGE) * DEBT_FACTOR;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const COST: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn failed_checks_get_a_tenth_of_the_time() {
        let budget = VerificationBudget::new();
        let began = Instant::now();
        for _ in 0..1_000 {
            budget.acquire().await.expect("a turn").charge(COST);
        }
        // A second's worth of them, 100, is free.
        let took = began.elapsed();
        let range = Duration::from_millis(8_900)..Duration::from_millis(11_000);
        assert!(range.contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn checks_that_succeed_wait_for_nobody() {
        let budget = VerificationBudget::new();
        let began = Instant::now();
        for _ in 0..100_000 {
            drop(budget.acquire().await.expect("a turn"));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_and_not_for_ever() {
        let budget = Arc::new(VerificationBudget::new());
        for _ in 0..=MAX_DEBT.as_millis() / COST.as_millis() / u128::from(DEBT_FACTOR) {
            budget.acquire().await.expect("a turn").charge(COST);
        }
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..MAX_WAITING + 10 {
            let budget = Arc::clone(&budget);
            waiting.spawn(async move {
                let began = Instant::now();
                match budget.acquire().await {
                    Ok(turn) => {
                        turn.charge(COST);
                        true
                    }
                    Err(_) => {
                        assert!(began.elapsed() <= Duration::from_secs(2));
                        false
                    }
                }
            });
        }
        let checked = waiting
            .join_all()
            .await
            .into_iter()
            .filter(|done| *done)
            .count();
        assert!((100..250).contains(&checked), "{checked} of them in 1.8 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_remembered_for_ten_seconds_and_by_the_same_keys() {
        let budget = VerificationBudget::new();
        let (known, other) = ([1; 32], [2; 32]);
        budget.refuse(known, 7);
        assert!(budget.is_refused(&known, 7));
        assert!(!budget.is_refused(&known, 8), "the keys are others now");
        assert!(!budget.is_refused(&other, 7));
        tokio::time::advance(REFUSAL_TTL).await;
        assert!(!budget.is_refused(&known, 7));
    }
}
