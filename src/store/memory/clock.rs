//! The clock of the embedded store.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Timestamp;

/// The system clock at the start plus the elapsed time, so it never steps.
#[derive(Debug)]
pub(super) struct Clock {
    started: (Timestamp, Instant),
}

impl Clock {
    /// Reads the system clock and the elapsed time at the same moment. A thread that is interrupted between the reads
    /// repeats them: the pause would set the clock of the store back.
    pub(super) fn start() -> Self {
        loop {
            let before = Instant::now();
            let started = (Timestamp::of_system_clock(), Instant::now());
            if started.1 - before < Duration::from_millis(1) {
                return Self { started };
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.started.0.plus(self.started.1.elapsed())
    }
}
