//! A whole city reconnects: 200,000 users connect as fast as they are answered, among a million that are online.

use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;
use tokio::time::{Instant, sleep};

use crate::measure::calls::{load, p99_ms, paced_apart, ping_one_of, post};
use crate::measure::report::Row;
use crate::measure::streams::Watcher;

const ONLINE: usize = 1_000_000;
const CITY: usize = 200_000;

const PINGS_PER_SECOND: usize = 1_000;
const LASTING: Duration = Duration::from_secs(6);

/// The longest wait for the events after the last connect.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn run() -> Vec<Row> {
    let redis = RedisServer::start().await;
    // No user expires during the measurement.
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    let settings = settings.with("PRESENCE_TTL", "30m");
    let services = [
        Instance::start(&settings).await,
        Instance::start(&settings).await,
    ];
    let addresses = services.each_ref().map(Instance::address);
    load(addresses[0], ONLINE, |user| {
        post(&format!("/v1/users/user-{user}/connect"))
    })
    .await;
    let ping = ping_one_of(PINGS_PER_SECOND);
    let pings = || paced_apart(addresses[0], PINGS_PER_SECOND, LASTING, ping);
    load(addresses[0], PINGS_PER_SECOND, ping).await;
    let watcher = Watcher::open(addresses[1]).await;
    let quiet = p99_ms(&pings().await);
    let pinging = tokio::spawn(pings());
    sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    // A refused call ends the claim with its answer.
    load(addresses[0], CITY, |user| {
        post(&format!("/v1/users/citizen-{user}/connect"))
    })
    .await;
    let took = began.elapsed().as_secs_f64();
    let seen = watcher.wait("user.online", CITY, TIMEOUT).await;
    let behind = began.elapsed().as_secs_f64() - took;
    let pings = pinging.await.expect("all were answered");
    let meanwhile: Vec<_> = pings
        .into_iter()
        .filter(|ping| ping.asked >= began)
        .collect();
    let busy = p99_ms(&meanwhile);
    let claim = "200,000 connects among 1,000,000 users";
    vec![
        Row::new(claim, "connects/s", CITY as f64 / took),
        Row::new(
            claim,
            "events of a stream on another instance, % of the connects",
            seen.len() as f64 / CITY as f64 * 100.0,
        )
        .at_least(100.0),
        Row::new(claim, "last event after the last answer, s", behind).at_most(1.0),
        Row::new(claim, "p99 of pings meanwhile, ms", busy),
        Row::new(
            claim,
            "p99 of pings meanwhile over the quiet one",
            busy / quiet,
        ),
    ]
}
