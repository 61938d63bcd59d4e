//! What is done to the instances, their network and their Redis.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::journal::Journal;
use super::stage::Seat;
use crate::process::Signal;
use crate::redis_server::RedisServer;
use crate::sse::EventSource;
use crate::timestamp::Timestamp;

/// The rest after each fault, in ms.
const REST_MS: std::ops::Range<u64> = 300..2_500;

/// How long a freeze lasts, in ms: some are outages, some are too short to be one.
const FREEZE_MS: std::ops::Range<u64> = 500..4_000;

/// How long any other disturbance lasts, in ms.
const DISTURBANCE_MS: std::ops::Range<u64> = 300..3_000;

/// How much later what a slow network carries arrives, in ms.
const SLOWNESS_MS: std::ops::Range<u64> = 20..400;

/// What happens to one instance and to none of the others.
#[derive(Clone, Copy, Debug)]
enum Lonely {
    Killed,
    Frozen,
    Terminated,
    Cut,
    Refused,
    Slowed,
    Swallowed,
    Deserted,
}

impl Lonely {
    const ALL: [Self; 8] = [
        Self::Killed,
        Self::Frozen,
        Self::Terminated,
        Self::Cut,
        Self::Refused,
        Self::Slowed,
        Self::Swallowed,
        Self::Deserted,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Killed => "instance killed (SIGKILL) and replaced",
            Self::Frozen => "instance frozen (SIGSTOP)",
            Self::Terminated => "instance drained (SIGTERM) and replaced",
            Self::Cut => "connections of an instance to Redis cut",
            Self::Refused => "connections of an instance to Redis refused",
            Self::Slowed => "network of an instance to Redis slow",
            Self::Swallowed => "network of an instance to Redis mute",
            Self::Deserted => "connections of an instance to Redis dead in silence",
        }
    }
}

/// What happens to all at once.
#[derive(Clone, Copy, Debug)]
enum Common {
    RedisFrozen,
    SubscribersKilled,
    CommandersKilled,
    RedisRestarted,
    Flushed,
    ReadersCut,
}

impl Common {
    const ALL: [Self; 6] = [
        Self::RedisFrozen,
        Self::SubscribersKilled,
        Self::CommandersKilled,
        Self::RedisRestarted,
        Self::Flushed,
        Self::ReadersCut,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::RedisFrozen => "Redis frozen (SIGSTOP)",
            Self::SubscribersKilled => "CLIENT KILL TYPE pubsub",
            Self::CommandersKilled => "CLIENT KILL TYPE normal",
            Self::RedisRestarted => "Redis killed and restarted empty",
            Self::Flushed => "FLUSHALL",
            Self::ReadersCut => "readers cut",
        }
    }
}

/// The names of all faults there are.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let lonely = Lonely::ALL.into_iter().map(Lonely::name);
    lonely.chain(Common::ALL.into_iter().map(Common::name))
}

/// Gives out each of `all` once in a random order, and again.
struct Deck<T> {
    all: Vec<T>,
    left: Vec<T>,
}

impl<T: Copy> Deck<T> {
    fn of(all: &[T]) -> Self {
        Self {
            all: all.to_vec(),
            left: Vec::new(),
        }
    }

    fn draw(&mut self, rng: &mut Rng) -> T {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            rng.shuffle(&mut self.left);
        }
        self.left.pop().expect("a deck is not empty")
    }
}

async fn last(rng: &mut Rng, range_ms: std::ops::Range<u64>) {
    sleep(Duration::from_millis(rng.u64(range_ms))).await;
}

/// Harms one instance after the other until `end`; each is well again when the next is harmed.
pub(super) async fn harm_instances(
    seats: &mut [Seat],
    mut rng: Rng,
    journal: &Journal,
    end: Instant,
) {
    let mut deck = Deck::of(&Lonely::ALL);
    while Instant::now() < end {
        let fault = deck.draw(&mut rng);
        let seat = &mut seats[rng.usize(..seats.len())];
        harm(seat, fault, &mut rng, journal).await;
        journal.survived(fault.name());
        last(&mut rng, REST_MS).await;
    }
}

async fn harm(seat: &mut Seat, fault: Lonely, rng: &mut Rng, journal: &Journal) {
    match fault {
        Lonely::Killed | Lonely::Terminated => {
            journal.harmed(seat.number);
            if matches!(fault, Lonely::Killed) {
                seat.instance.kill();
                last(rng, DISTURBANCE_MS).await;
            } else {
                seat.instance.send(Signal::Terminate);
                let status = seat.instance.exit().await;
                assert_eq!(status.code(), Some(0));
            }
            seat.replace().await;
            journal.unharmed(seat.number);
        }
        Lonely::Frozen => {
            journal.harmed(seat.number);
            seat.instance.send(Signal::Stop);
            last(rng, FREEZE_MS).await;
            seat.instance.send(Signal::Continue);
            journal.unharmed(seat.number);
        }
        Lonely::Cut => seat.proxy.cut_all(),
        Lonely::Deserted => seat.proxy.lose_open_connections(),
        Lonely::Refused => {
            seat.proxy.refuse();
            last(rng, DISTURBANCE_MS).await;
        }
        Lonely::Slowed => {
            let delay = Duration::from_millis(rng.u64(SLOWNESS_MS));
            seat.proxy.slow(delay);
            last(rng, DISTURBANCE_MS).await;
        }
        Lonely::Swallowed => {
            seat.proxy.freeze();
            last(rng, DISTURBANCE_MS).await;
        }
    }
    seat.proxy.pass();
}

/// Harms Redis, or all that hangs on it, again and again until `end`.
pub(super) async fn harm_all(
    redis: &mut RedisServer,
    readers: &[&EventSource],
    mut rng: Rng,
    journal: &Journal,
    end: Instant,
) {
    let mut deck = Deck::of(&Common::ALL);
    while Instant::now() < end {
        let fault = deck.draw(&mut rng);
        match fault {
            Common::RedisFrozen => {
                redis.freeze();
                last(&mut rng, FREEZE_MS).await;
                redis.thaw();
            }
            Common::SubscribersKilled => kill_clients(redis, "pubsub").await,
            Common::CommandersKilled => kill_clients(redis, "normal").await,
            Common::RedisRestarted => {
                let from = Timestamp::now();
                redis.kill();
                last(&mut rng, DISTURBANCE_MS).await;
                redis.start_again().await;
                journal.lost(from);
            }
            Common::Flushed => {
                let from = Timestamp::now();
                redis.flush_all().await;
                journal.lost(from);
            }
            Common::ReadersCut => readers.iter().for_each(|reader| reader.cut()),
        }
        journal.survived(fault.name());
        last(&mut rng, REST_MS).await;
    }
}

async fn kill_clients(redis: &RedisServer, kind: &str) {
    redis
        .command::<usize>(&["CLIENT", "KILL", "TYPE", kind])
        .await;
}
