//! One line in the log for many streams that could not begin.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use crate::store::StoreError;

/// How often, at most, the log says so.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// StreamService that could not begin, and when the log last said so.
#[derive(Debug, Default)]
pub(crate) struct FailureLog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    untold: u64,
    told: Option<Instant>,
}

impl FailureLog {
    /// Counts a stream that could not begin, and logs how many there were, if that was not done a
    /// moment ago.
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
