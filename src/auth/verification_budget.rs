//! Bounds the CPU time that forged tokens cost.
//!
//! The verification of a signature takes as long as one or several pings. Failed verifications get a tenth of one core.
//! Once they have used more, tokens that are not cached wait in a queue. Successful verifications are free, so that
//! many users can arrive at once.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

use super::digest::Digest;
use super::error::Error;

/// A failed verification of one millisecond is paid off after ten milliseconds: a tenth of one core.
const DEBT_FACTOR: u32 = 10;

/// The debt up to which tokens do not wait, as the time until the debt is paid off.
const MAX_DEBT: Duration = Duration::from_secs(1);

/// The most CPU time that one failed verification is charged with. Beyond this, the thread was not running.
const MAX_CHARGE: Duration = Duration::from_millis(5);

/// The most tokens that wait in the queue.
const MAX_WAITING: usize = 1_024;

/// The longest time that a token waits in the queue. Every call is answered within two seconds.
const MAX_WAIT: Duration = Duration::from_millis(1_800);

/// The most refused tokens that are remembered, at about 100 bytes each.
const MAX_REMEMBERED_REFUSALS: usize = 4_096;

/// How long a refused token is remembered.
const REFUSAL_TTL: Duration = Duration::from_secs(10);

/// The budget of failed verifications.
pub(super) struct VerificationBudget {
    /// When the debt of all failed verifications is paid off.
    debt_free_at: Mutex<Instant>,
    /// The one permit belongs to the head of the queue, which waits until the debt is small enough.
    head: Semaphore,
    /// One permit for each place in the queue.
    waiting: Semaphore,
    refused: Cache<Digest, Refusal>,
}

/// The time of a refusal, and the round of the JWK set that refused the token.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    at: Instant,
    round: u64,
}

/// The permission to verify one token.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    budget: &'a VerificationBudget,
    /// The next token waits until this one is charged.
    _head: Option<SemaphorePermit<'a>>,
}

impl fmt::Debug for VerificationBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationBudget")
            .field("refused", &self.refused.len())
            .finish_non_exhaustive()
    }
}

impl VerificationBudget {
    /// A budget without debt.
    pub(super) fn new() -> Self {
        Self {
            debt_free_at: Mutex::new(Instant::now()),
            head: Semaphore::new(1),
            waiting: Semaphore::new(MAX_WAITING),
            refused: Cache::new(MAX_REMEMBERED_REFUSALS),
        }
    }

    /// Waits until a token may be verified. Fails if the queue is full, or after 1.8 s.
    pub(super) async fn acquire(&self) -> Result<Permit<'_>, Error> {
        let head = match self.time_until_affordable() {
            None => None,
            Some(_) => Some(self.wait_in_queue().await?),
        };
        Ok(Permit {
            budget: self,
            _head: head,
        })
    }

    async fn wait_in_queue(&self) -> Result<SemaphorePermit<'_>, Error> {
        let _waiting = self
            .waiting
            .try_acquire()
            .map_err(|_| Error::VerificationOverloaded)?;
        let head = async {
            let head = self.head.acquire().await.ok()?;
            while let Some(wait) = self.time_until_affordable() {
                sleep(wait).await;
            }
            Some(head)
        };
        let head = timeout(MAX_WAIT, head).await;
        head.ok().flatten().ok_or(Error::VerificationOverloaded)
    }

    /// The time until a token may be verified. `None`: now.
    fn time_until_affordable(&self) -> Option<Duration> {
        let debt = self
            .debt_free_at
            .lock()
            .saturating_duration_since(Instant::now());
        debt.checked_sub(MAX_DEBT).filter(|wait| !wait.is_zero())
    }

    /// Whether the JWK set of this round refused the token in the last ten seconds.
    pub(super) fn is_refused(&self, digest: &Digest, round: u64) -> bool {
        let refusal = self.refused.get(digest);
        refusal.is_some_and(|refusal| refusal.round == round && refusal.at.elapsed() < REFUSAL_TTL)
    }

    /// Remembers a token that none of the keys signed.
    pub(super) fn remember_refusal(&self, digest: Digest, round: u64) {
        let at = Instant::now();
        self.refused.insert(digest, Refusal { at, round });
    }
}

impl Permit<'_> {
    /// Charges the CPU time of a failed verification.
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
    async fn failed_verifications_get_a_tenth_of_one_core() {
        let budget = VerificationBudget::new();
        let began = Instant::now();
        for _ in 0..1_000 {
            budget.acquire().await.expect("a permit").charge(COST);
        }
        // The first 100, which take one second to pay off, are free.
        let took = began.elapsed();
        let range = Duration::from_millis(8_900)..Duration::from_millis(11_000);
        assert!(range.contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn successful_verifications_do_not_wait() {
        let budget = VerificationBudget::new();
        let began = Instant::now();
        for _ in 0..100_000 {
            drop(budget.acquire().await.expect("a permit"));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_length_and_time() {
        let budget = Arc::new(VerificationBudget::new());
        for _ in 0..=MAX_DEBT.as_millis() / COST.as_millis() / u128::from(DEBT_FACTOR) {
            budget.acquire().await.expect("a permit").charge(COST);
        }
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..MAX_WAITING + 10 {
            let budget = Arc::clone(&budget);
            waiting.spawn(async move {
                let began = Instant::now();
                match budget.acquire().await {
                    Ok(permit) => {
                        permit.charge(COST);
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
        assert!((100..250).contains(&checked), "{checked} in 1.8 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_for_ten_seconds_and_for_one_round_of_keys() {
        let budget = VerificationBudget::new();
        let (known, other) = ([1; 32], [2; 32]);
        budget.remember_refusal(known, 7);
        assert!(budget.is_refused(&known, 7));
        assert!(!budget.is_refused(&known, 8), "the keys have changed");
        assert!(!budget.is_refused(&other, 7));
        tokio::time::advance(REFUSAL_TTL).await;
        assert!(!budget.is_refused(&known, 7));
    }
}
