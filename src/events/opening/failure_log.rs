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
    untold: u64,
    told: Option<Instant>,
}

impl FailureLog {
    /// Counts a stream that could not begin. Logs the count at most every [`REPORT_INTERVAL`].
    pub(crate) fn report(&self, error: &StoreError) {
        let mut state = self.0.lock();
        state.untold += 1;
        let now = Instant::now();
        if state.told.is_none_or(|told| now - told >= REPORT_INTERVAL) {
            warn!(%error, streams = state.untold, "streams could not begin");
            *state = State {
                untold: 0,
                told: Some(now),
            };
        }
    }
}
