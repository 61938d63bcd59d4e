//! Finishes writes of groups whose instance died.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::store::Store;

/// How often an instance looks for writes of groups that no instance finishes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long one look may take. A server that does not answer must not stop the looks at the others for ever.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Looks for such writes for as long as it is polled.
pub(super) async fn finish_group_writes(store: Arc<Store>) {
    loop {
        sleep(INTERVAL.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        let finished = timeout(TIMEOUT, store.finish_group_writes()).await;
        if let Ok(Err(error)) = finished {
            debug!(%error, "the writes of groups were not finished");
        }
    }
}
