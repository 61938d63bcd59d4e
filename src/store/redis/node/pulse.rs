//! Notices that the process stands still, and whether it is throttled.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::policy::{OUTAGE, SHORTEST_OUTAGE};

const INTERVAL: Duration = Duration::from_millis(100);

/// After a longer pause between two ticks, the process stood still, and its connections may have broken meanwhile.
const SHORT_PAUSE: Duration = Duration::from_millis(200);

/// The times at which the process ran.
///
/// A process that runs only while it serves a request stands still, runs for a moment, and stands still again. Then the
/// next request wakes it, so its clients can ping, although no instance sweeps.
#[derive(Debug, Default)]
pub(in crate::store::redis) struct Pulse(Mutex<Ticks>);

#[derive(Debug, Default)]
struct Ticks {
    last: Option<Instant>,
    /// When the process last began to run again.
    woke: Option<Instant>,
    /// The same, also after a short pause.
    resumed: Option<Instant>,
    /// How long the process last stood still, if it had run only for a moment before.
    throttled_for: Option<Duration>,
}

impl Pulse {
    /// Ticks for as long as it is polled.
    pub(in crate::store::redis) async fn tick(&self) -> ! {
        loop {
            self.0.lock().tick(Instant::now());
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// When the process last began to run again, also after a short pause.
    pub(in crate::store::redis) fn resumed(&self) -> Option<Instant> {
        let mut ticks = self.0.lock();
        ticks.note_call(Instant::now());
        ticks.resumed
    }

    /// How long the process stood still just now, if it looks throttled: it had run for less than [`OUTAGE`] since it
    /// stood still before.
    pub(in crate::store::redis) fn throttled_for(&self) -> Option<Duration> {
        self.0.lock().throttled_for(Instant::now())
    }
}

impl Ticks {
    fn tick(&mut self, now: Instant) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let pause = now.duration_since(last);
        if pause > SHORT_PAUSE {
            self.resumed = Some(now);
        }
        if pause > SHORTEST_OUTAGE {
            let woke = self.woke.replace(now);
            let ran_for = woke.map(|woke| last.duration_since(woke));
            self.throttled_for = ran_for.filter(|ran_for| *ran_for < OUTAGE).map(|_| pause);
        }
    }

    /// A call may be the first to run after the process stood still.
    fn note_call(&mut self, now: Instant) {
        if self.last.is_some() {
            self.tick(now);
        }
    }

    fn throttled_for(&mut self, now: Instant) -> Option<Duration> {
        self.note_call(now);
        let woke = self.woke?;
        self.throttled_for
            .filter(|_| now.duration_since(woke) < OUTAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        ticks: Ticks,
        now: Instant,
    }

    impl Story {
        fn new() -> Self {
            Self {
                ticks: Ticks::default(),
                now: Instant::now(),
            }
        }

        fn runs(&mut self, ms: u64) {
            for _ in 0..ms / 100 {
                self.ticks.tick(self.now);
                self.now += INTERVAL;
            }
            self.ticks.tick(self.now);
        }

        fn stands_still(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }

        fn throttled_for_ms(&mut self) -> Option<u128> {
            let pause = self.ticks.throttled_for(self.now);
            pause.map(|pause| pause.as_millis())
        }
    }

    #[test]
    fn a_process_that_stands_still_again_after_a_moment_is_throttled() {
        let mut story = Story::new();
        story.runs(5_000);
        assert_eq!(story.throttled_for_ms(), None);
        for throttled_for in [None, Some(2_400), Some(2_400)] {
            story.stands_still(2_400);
            assert_eq!(story.throttled_for_ms(), throttled_for);
            story.runs(300);
            assert_eq!(story.throttled_for_ms(), throttled_for);
        }
        story.runs(1_500);
        assert_eq!(story.throttled_for_ms(), None);
    }

    #[test]
    fn a_process_that_runs_for_longer_between_is_not_throttled() {
        let mut story = Story::new();
        for _ in 0..3 {
            story.runs(1_600);
            story.stands_still(5_000);
            assert_eq!(story.throttled_for_ms(), None);
        }
    }

    #[test]
    fn a_process_that_never_ran_is_not_throttled() {
        let mut story = Story::new();
        for _ in 0..3 {
            assert_eq!(story.throttled_for_ms(), None);
            story.stands_still(5_000);
        }
    }
}
