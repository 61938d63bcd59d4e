//! The times of the quiet partitions on one server.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Timestamp;
use crate::store::{BEAT, Look, SWEEP_HEARTBEAT, UNNOTICED};

/// How often an instance notes that it is ready to serve.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// After a longer time between two ticks, the process may have been frozen.
const STALL: Duration = Duration::from_millis(400);

/// Which looks read the newest event of a partition, and which ask for the time of the store: one in 10 s, and one in
/// 32 s.
const NEWEST: usize = 6;
const TIME: usize = 20;

/// For how long after a reply the store counts as answering. Longer than the time between two beats.
const TRUSTED: Duration = Duration::from_millis(1_000);

/// A store without a stall answers within this time.
const PROMPT: Duration = Duration::from_millis(300);

// The scheduler may delay a beat a little.
const _: () = assert!(BEAT.as_millis() + PROMPT.as_millis() + 100 <= UNNOTICED.as_millis());

/// How much a time of the store may differ from the time that the last one predicts. A larger difference means that the
/// clock was set.
const CLOCK_STEP: Duration = Duration::from_millis(50);

/// What a beat does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// A write: stores the time until which this instance was ready to serve.
    Writes,
    /// A read: checks whether the data are still in the store.
    Looks(Look),
}

/// What a look at the time shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// This instance was ready to serve until this time of the store.
    Ready(Timestamp),
    /// Calls wait for the store. Whether it answers is not known yet.
    Serving,
    /// The process was frozen, or calls have waited for too long. Only a sweep can tell what happened.
    Stalled,
}

/// What a sweeper knows about the time while it sweeps nothing.
#[derive(Debug)]
pub(super) struct QuietTime {
    /// A time of the store, and when a reply had it.
    known: Option<(Timestamp, Instant)>,
    /// The last reply of the store.
    heard_at: Instant,
    ticked_at: Instant,
    /// The last tick that did not find calls waiting.
    ready_at: Instant,
    pub(super) next_beat: Instant,
    beats: usize,
}

impl QuietTime {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            known: None,
            heard_at: now,
            ticked_at: now,
            ready_at: now,
            next_beat: now,
            beats: 0,
        }
    }

    /// Takes the time of the store in the reply to a request that was sent at `began`. Returns whether the clock of the
    /// store was set.
    pub(super) fn take(&mut self, time: Timestamp, began: Instant) -> bool {
        let now = Instant::now();
        self.heard_at = now;
        // The store read its clock between the beginning and now.
        let latest = time.plus(now.saturating_duration_since(began));
        let Some(expected) = self.at(now) else {
            self.known = Some((time, now));
            return false;
        };
        self.known = Some((expected.clamp(time, latest), now));
        expected.plus(CLOCK_STEP) < time || expected > latest.plus(CLOCK_STEP)
    }

    /// The time of the store, as far as it is known.
    pub(super) fn time(&self) -> Option<Timestamp> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<Timestamp> {
        let (known, at) = self.known?;
        Some(known.plus(now.saturating_duration_since(at)))
    }

    /// Looks at the time. Must be called at least every [`TICK`]. `is_serving` says whether calls wait for the store.
    pub(super) fn tick(&mut self, is_serving: bool) -> Tick {
        let now = Instant::now();
        let since = std::mem::replace(&mut self.ticked_at, now);
        if is_serving && now - self.ready_at < SWEEP_HEARTBEAT {
            return Tick::Serving;
        }
        self.ready_at = now;
        match self.at(now.min(self.heard_at + TRUSTED)) {
            Some(time) if !is_serving && now - since <= STALL => Tick::Ready(time),
            _ => Tick::Stalled,
        }
    }

    /// Begins a beat for `count` quiet partitions. Returns the place of the partition whose turn it is, and what the
    /// beat does.
    pub(super) fn beat(&mut self, count: usize) -> (usize, Beat) {
        self.next_beat = Instant::now() + BEAT;
        self.beats = self.beats.wrapping_add(1);
        let (round, writes) = (self.beats / 2, !self.beats.is_multiple_of(2));
        let look = Look {
            newest: round.is_multiple_of(NEWEST),
            time: round.is_multiple_of(TIME),
        };
        let beat = if writes {
            Beat::Writes
        } else {
            Beat::Looks(look)
        };
        // Each partition has its turn in each kind of beat.
        let turn = if !writes && look.newest {
            round / NEWEST
        } else {
            round
        };
        (turn % count.max(1), beat)
    }

    /// The time of the store at its last reply, if it is known.
    pub(super) fn heard_time(&self) -> Option<Timestamp> {
        self.at(self.heard_at)
    }

    /// Whether the last reply is so old that the store may have stood still since.
    pub(super) fn is_silent(&self) -> bool {
        self.heard_at.elapsed() > PROMPT
    }

    /// Records that the store answered a request that was sent at `began`. Returns whether the reply was so late that
    /// the store may have stood still.
    pub(super) fn heard_late(&mut self, began: Instant) -> bool {
        self.heard();
        began.elapsed() > PROMPT
    }

    /// Records that the store answered.
    fn heard(&mut self) {
        self.heard_at = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_stall_the_instance_was_not_ready() {
        let mut quiet = QuietTime::new();
        let ready = |millis| Tick::Ready(Timestamp::from_millis(millis));
        assert_eq!(quiet.tick(false), Tick::Stalled, "no time is known");
        assert!(!quiet.take(Timestamp::from_millis(5_000), Instant::now()));
        advance(TICK).await;
        assert_eq!(quiet.tick(false), ready(5_100));
        advance(STALL + TICK).await;
        assert_eq!(quiet.tick(false), Tick::Stalled);
        advance(TICK).await;
        assert_eq!(quiet.tick(false), ready(5_700));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_wait_for_long_stall_it() {
        let mut quiet = QuietTime::new();
        quiet.take(Timestamp::from_millis(5_000), Instant::now());
        for expected in [Tick::Serving, Tick::Serving, Tick::Stalled, Tick::Serving] {
            advance(TICK).await;
            assert_eq!(quiet.tick(true), expected);
        }
        assert_eq!(
            quiet.tick(false),
            Tick::Ready(Timestamp::from_millis(5_400))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_clock_is_noticed() {
        let mut quiet = QuietTime::new();
        quiet.take(Timestamp::from_millis(5_000), Instant::now());
        advance(Duration::from_secs(1)).await;
        assert!(!quiet.take(Timestamp::from_millis(6_010), Instant::now()));
        assert!(quiet.take(Timestamp::from_millis(4_000), Instant::now()));
        assert!(quiet.take(Timestamp::from_millis(9_000), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn each_partition_has_its_turn_in_each_kind_of_beat() {
        let mut quiet = QuietTime::new();
        let beats: Vec<_> = (0..120).map(|_| quiet.beat(3)).collect();
        let places = |wanted: fn(Beat) -> bool| -> Vec<usize> {
            let beats = beats.iter().filter(|(_, beat)| wanted(*beat));
            beats.map(|(place, _)| *place).collect()
        };
        let writes = places(|beat| beat == Beat::Writes);
        assert_eq!((writes.len(), &writes[..4]), (60, &[0, 1, 2, 0][..]));
        let plain = places(|beat| beat == Beat::Looks(Look::default()));
        assert_eq!(plain[..4], [1, 2, 0, 1]);
        let newest = places(|beat| matches!(beat, Beat::Looks(look) if look.newest));
        assert_eq!((newest.len(), &newest[..4]), (10, &[1, 2, 0, 1][..]));
        let times = places(|beat| matches!(beat, Beat::Looks(look) if look.time));
        assert_eq!(times.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_reply_is_noticed() {
        let mut quiet = QuietTime::new();
        quiet.take(Timestamp::from_millis(5_000), Instant::now());
        advance(TICK).await;
        assert!(!quiet.is_silent());
        assert_eq!(quiet.heard_time(), Some(Timestamp::from_millis(5_000)));
        let began = Instant::now();
        advance(PROMPT + TICK).await;
        assert!(quiet.is_silent());
        assert!(quiet.heard_late(began) && !quiet.is_silent());
        assert!(!quiet.heard_late(Instant::now()));
        assert_eq!(quiet.heard_time(), Some(Timestamp::from_millis(5_500)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_may_not_answer_any_more() {
        let mut quiet = QuietTime::new();
        quiet.take(Timestamp::from_millis(5_000), Instant::now());
        for _ in 0..30 {
            advance(TICK).await;
            quiet.tick(false);
        }
        assert_eq!(
            quiet.tick(false),
            Tick::Ready(Timestamp::from_millis(6_000))
        );
        quiet.heard();
        assert_eq!(
            quiet.tick(false),
            Tick::Ready(Timestamp::from_millis(8_000))
        );
    }
}
