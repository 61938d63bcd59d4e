//! Keeps a warning from filling the log.

use std::time::{Duration, Instant};

/// When a warning was last logged.
#[derive(Debug)]
pub(crate) struct WarningPace(Option<Instant>);

impl WarningPace {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Whether the warning may be logged now: the first one, and one in each `interval`. Notes it.
    pub(crate) fn permits(&mut self, interval: Duration) -> bool {
        let is_due = self.0.is_none_or(|at| at.elapsed() >= interval);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}
