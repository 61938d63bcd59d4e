//! Logs many streams that could not begin in one line.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use crate::store::StoreError;

/// The shortest time between two log lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Counts streams that could not begin, until the next log line.
#[derive(Debug, Default)]
pub(crate) struct FailureLog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    unreported: u64,
    logged_at: Option<Instant>,
}

impl FailureLog {
    /// Counts a stream that could not begin. Logs the count at most every [`REPORT_INTERVAL`].
    pub(crate) fn report(&self, error: &StoreError) {
        let mut state = self.0.lock();
        state.unreported += 1;
        let now = Instant::now();
        if state.logged_at.is_none_or(|at| now - at >= REPORT_INTERVAL) {
            warn!(%error, streams = state.unreported, "streams could not begin");
            *state = State {
                unreported: 0,
                logged_at: Some(now),
            };
        }
    }
}
