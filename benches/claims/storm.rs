//! Thousands of streams that are cut at once and all resume.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::harness::calls::{Call, come_and_go, load, p99_ms, paced_apart, ping_one_of};
use crate::harness::report::{Figure, Row};
use crate::harness::service::{Redis, Service};
use crate::harness::streams::{OUR_EVENT, Readers, Watcher, get};

const ROUNDS: usize = 5;
const STREAMS: usize = 5_000;

/// Events that every stream misses.
const MISSED: usize = 128;

/// Pings meanwhile, and how long they are measured.
const PINGS_PER_SECOND: usize = 1_000;
const LASTING: Duration = Duration::from_secs(6);
const PINGS_SETTLED: Duration = Duration::from_millis(500);

pub(crate) async fn run() -> Vec<Row> {
    let (mut seconds, mut slower, mut stormy_ms, mut reads) = Default::default();
    for _ in 0..ROUNDS {
        round(&mut seconds, &mut slower, &mut stormy_ms, &mut reads).await;
    }
    let claim = "5,000 streams resume at once";
    vec![
        Row::new(claim, "s until all caught up", seconds).at_most(5.0),
        Row::new(claim, "p99 of pings meanwhile over the quiet one", slower).at_most(5.0),
        Row::new(claim, "p99 of pings meanwhile, ms", stormy_ms),
        Row::new(claim, "scripts that Redis ran for it", reads).at_most(500.0),
    ]
}

async fn round(
    seconds: &mut Figure,
    slower: &mut Figure,
    stormy_ms: &mut Figure,
    reads: &mut Figure,
) {
    let ping = ping_one_of(PINGS_PER_SECOND);
    let redis = Redis::start();
    let service = Service::on(&redis);
    let address = service.address;
    load(address, PINGS_PER_SECOND, ping).await;
    let watcher = Watcher::open(address).await;
    let streams = Readers::open(address, STREAMS, OUR_EVENT, 1, |_| get("/v1/events", None)).await;
    let quiet = paced_apart(address, PINGS_PER_SECOND, LASTING, ping).await;
    let cursor = watcher.cursor();
    drop(streams);
    load(address, MISSED, come_and_go).await;
    watcher.wait("user.offline", MISSED / 2, LASTING).await;
    sleep(Duration::from_millis(500)).await;
    let before = redis.command("evalsha").0;
    let pings = tokio::spawn(paced_apart(address, PINGS_PER_SECOND, LASTING, ping));
    // Their connections are to be open before the storm, and not to queue behind it to be accepted.
    sleep(PINGS_SETTLED).await;
    let began = Instant::now();
    let resume = |_| get("/v1/events", Some(&cursor));
    let streams = Readers::open(address, STREAMS, OUR_EVENT, MISSED as u64, resume).await;
    streams.are_complete().await;
    let took = began.elapsed();
    seconds.push(took.as_secs_f64());
    let swept = sweeps(took);
    reads.push((redis.command("evalsha").0 - before - swept).max(0.0));
    let pings = pings.await.expect("the pings were answered");
    let stormy: Vec<Call> = pings
        .into_iter()
        .filter(|ping| ping.asked >= began && ping.asked < began + took)
        .collect();
    assert_eq!(
        streams.events(),
        (STREAMS * MISSED) as u64,
        "each event came once"
    );
    let stormy = p99_ms(&stormy);
    stormy_ms.push(stormy);
    slower.push(stormy / p99_ms(&quiet));
}

/// The sweeps that an idle instance makes in this time, at least.
fn sweeps(time: Duration) -> f64 {
    (time.as_secs_f64() / 0.25).floor()
}
