//! How long a stream that begins waits, and the repetition of what fails while the store is unreachable.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::store::{Backoff, StoreError};

/// How long a stream waits for a failing store before it ends.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a stream waits for the bus before it reads the newest position of the store again.
pub(super) const JOIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a resumed stream waits for the events right before its request.
pub(super) const RECEIVE_TIMEOUT: Duration = Duration::from_millis(500);

/// Repeats `attempt` until it succeeds or [`STORE_TIMEOUT`] has passed.
pub(super) async fn retry_until_timeout<T, A>(attempt: impl Fn() -> A) -> Result<T, StoreError>
where
    A: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        match attempt().await {
            Err(error) if began.elapsed() >= STORE_TIMEOUT => return Err(error),
            Err(_) => sleep(backoff.next()).await,
            Ok(found) => return Ok(found),
        }
    }
}
