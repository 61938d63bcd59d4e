//! Waiting for conditions, with a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// The deadline of anything that must happen. It is generous, for machines under load.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The time between two checks of a condition that cannot be awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Calls `attempt` until it returns a value. Panics with `what` after [`PATIENCE`].
pub async fn eventually<T>(what: &str, attempt: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, attempt).await
}

/// Calls `attempt` until it returns a value. Panics with `what` after `patience`.
pub async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> T {
    let give_up = Instant::now() + patience;
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(Instant::now() < give_up, "gave up waiting: {what}");
        sleep(LOOK_AGAIN).await;
    }
}

/// Calls `holds` until it returns `true`. Panics with `what` after [`PATIENCE`].
pub async fn eventually_true(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    eventually(what, async || holds().await.then_some(())).await;
}

/// Waits until a server accepts connections at `address`.
pub async fn until_accepted(address: SocketAddr) {
    let what = format!("a server accepts at {address}");
    eventually_true(&what, async || TcpStream::connect(address).await.is_ok()).await;
}
