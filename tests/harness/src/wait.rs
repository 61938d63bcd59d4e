//! Waiting for a condition, with a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// How long anything that has to happen may take before the test gives up; generous, for machines under load.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Time between two looks at a condition that cannot be awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Looks until `attempt` finds something; panics, saying `what` did not happen, after [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(Instant::now() < give_up, "gave up waiting: {what}");
        sleep(LOOK_AGAIN).await;
    }
}

/// Looks until `holds` is true; panics, saying `what` did not happen, after [`PATIENCE`].
pub async fn eventually_true(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    eventually(what, async || holds().await.then_some(())).await;
}

/// Waits until a server accepts connections at `address`.
pub async fn until_accepted(address: SocketAddr) {
    let what = format!("a server accepts at {address}");
    eventually_true(&what, async || TcpStream::connect(address).await.is_ok()).await;
}
