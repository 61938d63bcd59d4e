//! What tokens may cost that nobody signed.
//!
//! A token that is not remembered costs a check of its signature, which takes as long as a ping or several. So those
//! checks that fail get a tenth of one core in all; while they take more, tokens that are not remembered wait for
//! their turn. Tokens that are good cost nothing of this, so that many users can come at once.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

use super::access::Digest;
use crate::http::error::Error;

/// For each moment that failed checks took, this many moments pass until it is paid for.
const PAID_BY: u32 = 10;

/// How much may be unpaid before anybody waits.
const MOST_UNPAID: Duration = Duration::from_secs(1);

/// The most that one check is charged with. Where it seems to take longer, the system had the thread wait.
const MOST_CHARGED: Duration = Duration::from_millis(5);

/// How many tokens may wait for their turn, and how long each: a call is to be answered within two seconds.
const MOST_WAITING: usize = 1_024;
const PATIENCE: Duration = Duration::from_millis(1_800);

/// How many refused tokens are remembered, at about 100 bytes each, and for how long.
const MOST_REFUSED: usize = 4_096;
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Bounds the cost of checks.
pub(super) struct Checks {
    /// When everything that failed checks took will be paid for.
    paid_at: Mutex<Instant>,
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
pub(super) struct Turn<'a> {
    checks: &'a Checks,
    /// Given back once it is known what the check cost.
    _turn: Option<SemaphorePermit<'a>>,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks")
            .field("refused", &self.refused.len())
            .finish_non_exhaustive()
    }
}

impl Checks {
    pub(super) fn new() -> Self {
        Self {
            paid_at: Mutex::new(Instant::now()),
            turn: Semaphore::new(1),
            waiting: Semaphore::new(MOST_WAITING),
            refused: Cache::new(MOST_REFUSED),
        }
    }

    /// Waits until a token may be checked. Fails where too many wait.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, Error> {
        let turn = match self.wait_for_payment() {
            None => None,
            Some(_) => Some(self.wait_for_turn().await?),
        };
        Ok(Turn {
            checks: self,
            _turn: turn,
        })
    }

    async fn wait_for_turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        let _waiting = self
            .waiting
            .try_acquire()
            .map_err(|_| Error::TooManyTokens)?;
        let turn = async {
            let turn = self.turn.acquire().await.ok()?;
            while let Some(wait) = self.wait_for_payment() {
                sleep(wait).await;
            }
            Some(turn)
        };
        let turn = timeout(PATIENCE, turn).await;
        turn.ok().flatten().ok_or(Error::TooManyTokens)
    }

    /// How long it takes until so much is paid for that a token may be checked; none where that is so now.
    fn wait_for_payment(&self) -> Option<Duration> {
        let unpaid = self
            .paid_at
            .lock()
            .saturating_duration_since(Instant::now());
        unpaid
            .checked_sub(MOST_UNPAID)
            .filter(|wait| !wait.is_zero())
    }

    /// Whether this token was refused a moment ago by the same keys.
    pub(super) fn is_refused(&self, digest: &Digest, keys: u64) -> bool {
        let refusal = self.refused.get(digest);
        refusal.is_some_and(|refusal| refusal.keys == keys && refusal.at.elapsed() < REFUSED_FOR)
    }

    /// Remembers a token that was signed by none of the keys.
    pub(super) fn refuse(&self, digest: Digest, keys: u64) {
        let at = Instant::now();
        self.refused.insert(digest, Refusal { at, keys });
    }
}

impl Turn<'_> {
    /// Takes note of what a check cost that failed.
    pub(super) fn charge(self, cost: Duration) {
        let mut paid_at = self.checks.paid_at.lock();
        let from = Instant::now().max(*paid_at);
        *paid_at = from + cost.min(MOST_CHARGED) * PAID_BY;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const COST: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn failed_checks_get_a_tenth_of_the_time() {
        let checks = Checks::new();
        let began = Instant::now();
        for _ in 0..1_000 {
            checks.turn().await.expect("a turn").charge(COST);
        }
        // A second's worth of them, 100, is free.
        let took = began.elapsed();
        let range = Duration::from_millis(8_900)..Duration::from_millis(11_000);
        assert!(range.contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn checks_that_succeed_wait_for_nobody() {
        let checks = Checks::new();
        let began = Instant::now();
        for _ in 0..100_000 {
            drop(checks.turn().await.expect("a turn"));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_and_not_for_ever() {
        let checks = Arc::new(Checks::new());
        for _ in 0..=MOST_UNPAID.as_millis() / COST.as_millis() / u128::from(PAID_BY) {
            checks.turn().await.expect("a turn").charge(COST);
        }
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..MOST_WAITING + 10 {
            let checks = Arc::clone(&checks);
            waiting.spawn(async move {
                let began = Instant::now();
                match checks.turn().await {
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
        let checks = Checks::new();
        let (known, other) = ([1; 32], [2; 32]);
        checks.refuse(known, 7);
        assert!(checks.is_refused(&known, 7));
        assert!(!checks.is_refused(&known, 8), "the keys are others now");
        assert!(!checks.is_refused(&other, 7));
        tokio::time::advance(REFUSED_FOR).await;
        assert!(!checks.is_refused(&known, 7));
    }
}
