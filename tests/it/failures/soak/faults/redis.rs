//! Faults of Redis, or of all connections to it.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use harness::redis_server::RedisServer;
use harness::sse::EventSource;
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;
use tokio::time::Instant;

use super::super::journal::Journal;
use super::{DISTURBANCE_MS, Deck, FINDS_REDIS, FREEZE_MS, RECONNECTS, REST_MS, last};

/// How far the clock of Redis may be ahead of the true time, in milliseconds.
const CLOCK_AHEAD_MS: Range<i64> = 0..20_000;

/// The sizes of steps of the clock, in milliseconds. Small steps are no outage, and large steps always are.
const SMALL_STEP_MS: Range<i64> = 100..800;
const LARGE_STEP_MS: Range<i64> = 2_000..9_000;

/// By then a sweep has noticed a step of the clock.
const SEES_THE_CLOCK: Duration = Duration::from_millis(500);

/// Faults that keep the data.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Frozen,
    Asleep,
    SubscribersKilled,
    CommandersKilled,
    ReadersCut,
    ClockAhead,
    ClockBack,
}

/// Faults that lose the data.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Restarted,
    Flushed,
}

impl Fault {
    const ALL: [Self; 7] = [
        Self::Frozen,
        Self::Asleep,
        Self::SubscribersKilled,
        Self::CommandersKilled,
        Self::ReadersCut,
        Self::ClockAhead,
        Self::ClockBack,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Frozen => "Redis frozen (SIGSTOP)",
            Self::Asleep => "Redis stalled (DEBUG SLEEP)",
            Self::SubscribersKilled => "CLIENT KILL TYPE pubsub",
            Self::CommandersKilled => "CLIENT KILL TYPE normal",
            Self::ReadersCut => "readers cut",
            Self::ClockAhead => "clock of Redis set ahead",
            Self::ClockBack => "clock of Redis set back",
        }
    }

    /// How long after the fault calls may still be refused; `None` if no call may be refused at all.
    fn recovery(self) -> Option<Duration> {
        match self {
            Self::Frozen | Self::Asleep => Some(FINDS_REDIS),
            Self::CommandersKilled => Some(RECONNECTS),
            Self::SubscribersKilled | Self::ReadersCut | Self::ClockAhead | Self::ClockBack => None,
        }
    }
}

impl Loss {
    const ALL: [Self; 2] = [Self::Restarted, Self::Flushed];

    fn name(self) -> &'static str {
        match self {
            Self::Restarted => "Redis killed and restarted empty",
            Self::Flushed => "FLUSHALL",
        }
    }
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let faults = Fault::ALL.into_iter().map(Fault::name);
    faults.chain(Loss::ALL.into_iter().map(Loss::name))
}

/// Causes faults of Redis without loss of data until `end`.
pub(in super::super) async fn harm_redis(
    redis: &RedisServer,
    readers: &[&EventSource],
    mut rng: Rng,
    journal: &Journal,
    end: Instant,
) {
    let mut deck = Deck::of(&Fault::ALL);
    while Instant::now() < end {
        let fault = deck.draw(&mut rng);
        let harm = fault.recovery().map(|recovery| {
            let harm = journal.harmed(fault.name(), None);
            (harm, recovery)
        });
        match fault {
            Fault::Frozen => {
                let from = Timestamp::now();
                redis.freeze();
                last(&mut rng, FREEZE_MS).await;
                let ended = Timestamp::now();
                redis.thaw();
                journal.paused(from, ended, RECONNECTS);
            }
            Fault::Asleep => {
                let length = Duration::from_millis(rng.u64(FREEZE_MS));
                stall(redis, length, journal, RECONNECTS).await;
            }
            Fault::SubscribersKilled => kill_clients(redis, "pubsub").await,
            Fault::CommandersKilled => kill_clients(redis, "normal").await,
            Fault::ReadersCut => readers.iter().for_each(|reader| reader.cut()),
            Fault::ClockAhead => set_clock(redis, &mut rng, journal, true),
            Fault::ClockBack => set_clock(redis, &mut rng, journal, false),
        }
        if let Some((harm, recovery)) = harm {
            journal.mended(&harm, recovery);
        }
        journal.survived(fault.name());
        last(&mut rng, REST_MS).await;
    }
}

/// Keeps Redis from answering for `length`.
pub(super) async fn stall(
    redis: &RedisServer,
    length: Duration,
    journal: &Journal,
    recovery: Duration,
) {
    let from = Timestamp::now();
    let seconds = format!("{:.3}", length.as_secs_f64());
    // The caller does not wait for the answer.
    let _ = redis.try_command::<()>(&["DEBUG", "SLEEP", &seconds]).await;
    eventually_true("Redis answers again", async || {
        let asleep = Timestamp::now().millis_after(from) < length.as_millis() as i64;
        !asleep && redis.try_command::<()>(&["PING"]).await.is_ok()
    })
    .await;
    journal.paused(from, from.plus(length), recovery);
}

async fn kill_clients(redis: &RedisServer, kind: &str) {
    redis
        .command::<usize>(&["CLIENT", "KILL", "TYPE", kind])
        .await;
}

/// Moves the clock of Redis ahead or back, within its range.
fn set_clock(redis: &RedisServer, rng: &mut Rng, journal: &Journal, ahead: bool) {
    let is_ms = journal
        .record()
        .clock
        .last()
        .map_or(0, |last| last.ahead_ms);
    let is_large = rng.bool();
    let step_ms = rng.i64(if is_large {
        LARGE_STEP_MS
    } else {
        SMALL_STEP_MS
    });
    let (back, forth) = (is_ms - step_ms, is_ms + step_ms);
    let goes_ahead = ahead && CLOCK_AHEAD_MS.contains(&forth) || !CLOCK_AHEAD_MS.contains(&back);
    let from = Timestamp::now();
    let to_ms = if goes_ahead { forth } else { back };
    redis.set_clock_ahead(to_ms);
    journal.clock_is_ahead(to_ms);
    if goes_ahead && is_large {
        journal.paused(from, from, SEES_THE_CLOCK);
    }
}

/// Causes losses of data until `end`.
pub(in super::super) async fn lose_data(
    redis: &mut RedisServer,
    mut rng: Rng,
    journal: &Journal,
    end: Instant,
) {
    let mut deck = Deck::of(&Loss::ALL);
    while Instant::now() < end {
        let loss = deck.draw(&mut rng);
        let from = Timestamp::now();
        match loss {
            Loss::Restarted => {
                let harm = journal.harmed(loss.name(), None);
                redis.kill();
                last(&mut rng, DISTURBANCE_MS).await;
                let ended = Timestamp::now();
                redis.start_again().await;
                journal.mended(&harm, FINDS_REDIS);
                journal.paused(from, ended, FINDS_REDIS);
            }
            Loss::Flushed => redis.flush_all().await,
        }
        journal.lost(from);
        journal.survived(loss.name());
        last(&mut rng, REST_MS).await;
    }
}
