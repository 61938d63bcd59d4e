//! Thousands of streams that are closed at once and resume.

use std::net::SocketAddr;
use std::time::Duration;

use harness::instance::Instance;
use harness::redis_server::RedisServer;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::measure::calls::{Call, come_and_go, load, p99_ms, paced_apart, ping_one_of};
use crate::measure::report::{Figure, Row};
use crate::measure::streams::{OUR_EVENT, Readers, Watcher, get};

const ROUNDS: usize = 5;
const STREAMS: usize = 5_000;

/// The events that every stream misses.
const MISSED: usize = 128;

/// The rate of the pings during the storm, and the time for which they are measured.
const PINGS_PER_SECOND: usize = 1_000;
const LASTING: Duration = Duration::from_secs(6);
const PINGS_SETTLED: Duration = Duration::from_millis(500);

/// The results of the rounds.
#[derive(Default)]
struct Found {
    seconds: Figure,
    slower: Figure,
    stormy_ms: Figure,
    elsewhere_slower: Figure,
    over_elsewhere: Figure,
    reads: Figure,
}

pub(crate) async fn run() -> Vec<Row> {
    let mut found = Found::default();
    for _ in 0..ROUNDS {
        round(&mut found).await;
    }
    let claim = "5,000 streams resume at once";
    let row = |figure: &str, found| Row::new(claim, figure, found);
    vec![
        row("s until all caught up", found.seconds).at_most(5.0),
        row("p99 of pings meanwhile over the quiet one", found.slower).at_most(5.0),
        row("p99 of pings meanwhile, ms", found.stormy_ms),
        row(
            "p99 of pings of another instance, which has no streams, over its quiet one",
            found.elsewhere_slower,
        ),
        row(
            "p99 of pings meanwhile over that of the other instance",
            found.over_elsewhere,
        ),
        row("scripts that Redis ran for it", found.reads).at_most(500.0),
    ]
}

/// Running pings of one instance.
struct Pings(JoinHandle<Vec<Call>>);

impl Pings {
    fn start(address: SocketAddr) -> Self {
        let ping = ping_one_of(PINGS_PER_SECOND);
        Self(tokio::spawn(paced_apart(
            address,
            PINGS_PER_SECOND,
            LASTING,
            ping,
        )))
    }

    /// The p99 of the pings that were sent in the time `lasting` after `began`, in milliseconds.
    async fn p99_ms(self, began: Instant, lasting: Duration) -> f64 {
        let mut pings = self.0.await.expect("the pings were answered");
        pings.retain(|ping| ping.asked >= began && ping.asked < began + lasting);
        p99_ms(&pings)
    }
}

async fn round(found: &mut Found) {
    let ping = ping_one_of(PINGS_PER_SECOND);
    let redis = RedisServer::start().await;
    let service = Instance::on(&redis).await;
    let address = service.address();
    load(address, PINGS_PER_SECOND, ping).await;
    // The other instance shows the cost of the system and of the clients on the same processors.
    let other_redis = RedisServer::start().await;
    let other = Instance::on(&other_redis).await;
    let elsewhere = other.address();
    load(elsewhere, PINGS_PER_SECOND, ping).await;
    let watcher = Watcher::open(address).await;
    let streams = Readers::open(address, STREAMS, OUR_EVENT, 1, |_| get("/v1/events", None)).await;
    let began = Instant::now();
    let (pings, beside) = (Pings::start(address), Pings::start(elsewhere));
    let quiet = pings.p99_ms(began, LASTING).await;
    let quiet_elsewhere = beside.p99_ms(began, LASTING).await;
    let cursor = watcher.cursor();
    drop(streams);
    load(address, MISSED, come_and_go).await;
    watcher.wait("user.offline", MISSED / 2, LASTING).await;
    sleep(Duration::from_millis(500)).await;
    let before = scripts_but_pings(&redis).await;
    let (pings, beside) = (Pings::start(address), Pings::start(elsewhere));
    // The connections of the pings are opened before the storm, so that they do not wait for it to be accepted.
    sleep(PINGS_SETTLED).await;
    let began = Instant::now();
    let resume = |_| get("/v1/events", Some(&cursor));
    let streams = Readers::open(address, STREAMS, OUR_EVENT, MISSED as u64, resume).await;
    streams.are_complete().await;
    let took = began.elapsed();
    let swept = sweeps(took);
    let reads = (scripts_but_pings(&redis).await - before - swept).max(0.0);
    let stormy = pings.p99_ms(began, took).await;
    let stormy_elsewhere = beside.p99_ms(began, took).await;
    assert_eq!(
        streams.events(),
        (STREAMS * MISSED) as u64,
        "each event came once"
    );
    found.seconds.push(took.as_secs_f64());
    found.slower.push(stormy / quiet);
    found.stormy_ms.push(stormy);
    found
        .elsewhere_slower
        .push(stormy_elsewhere / quiet_elsewhere);
    found.over_elsewhere.push(stormy / stormy_elsewhere);
    found.reads.push(reads);
}

/// The number of scripts that Redis ran, without the scripts of pings, which call `PEXPIRE`.
async fn scripts_but_pings(redis: &RedisServer) -> f64 {
    redis.calls_of("evalsha").await as f64 - redis.calls_of("pexpire").await as f64
}

/// The least number of sweeps of an idle instance in `time`.
fn sweeps(time: Duration) -> f64 {
    (time.as_secs_f64() / 0.25).floor()
}
