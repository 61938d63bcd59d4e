use std::time::Duration;

use presence::model::{Timestamp, millis};

/// The largest difference between the clocks of the test and of the store, which both round to milliseconds.
const SLACK_MS: u64 = 3;

/// The moments between which something happened, inclusive, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Bracket {
    pub(super) earliest: u64,
    pub(super) latest: u64,
}

impl Bracket {
    /// Begins before a call, by a clock that is `ahead_ms` ahead of the true time.
    pub(in super::super) fn open(ahead_ms: i64) -> Self {
        Self {
            earliest: now(ahead_ms) - SLACK_MS,
            latest: u64::MAX,
        }
    }

    /// Ends after the call.
    pub(in super::super) fn close(self, ahead_ms: i64) -> Self {
        Self {
            latest: now(ahead_ms) + SLACK_MS,
            ..self
        }
    }

    pub(super) fn exactly(moment: Timestamp) -> Self {
        Self {
            earliest: moment.as_millis(),
            latest: moment.as_millis(),
        }
    }

    pub(super) fn plus(self, duration: Duration) -> Self {
        Self {
            earliest: self.earliest + millis(duration),
            latest: self.latest + millis(duration),
        }
    }

    pub(super) fn minus(self, duration: Duration) -> Self {
        Self {
            earliest: self.earliest - millis(duration),
            latest: self.latest - millis(duration),
        }
    }

    /// Whether it is longer than `duration`.
    pub(super) fn lasts(self, duration: Duration) -> bool {
        self.latest.saturating_sub(self.earliest) > millis(duration)
    }

    pub(super) fn surely_before(self, other: Self) -> bool {
        self.latest < other.earliest
    }

    pub(super) fn surely_before_moment(self, moment: Timestamp) -> bool {
        self.latest < moment.as_millis()
    }

    /// The later one of two moments.
    pub(super) fn or_later(self, other: Self) -> Self {
        Self {
            earliest: self.earliest.max(other.earliest),
            latest: self.latest.max(other.latest),
        }
    }

    pub(super) fn contains(self, moment: Timestamp) -> bool {
        (self.earliest..=self.latest).contains(&moment.as_millis())
    }
}

fn now(ahead_ms: i64) -> u64 {
    let now = Timestamp::of_system_clock().as_millis();
    now.saturating_add_signed(ahead_ms)
}
