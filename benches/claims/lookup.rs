//! The lookup of a thousand users, compared with `MGET` of redis-benchmark.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;

use crate::measure::calls::{load, p99_ms, paced_apart, ping_one_of, post};
use crate::measure::report::{Figure, Row};
use crate::measure::wrk::{LOOKUP, round};

const ROUNDS: usize = 11;
const IDS: usize = 1_000;

/// The rounds in which pings are measured with and without lookups, their rate, and their time, which is a little less
/// than a round of lookups takes.
const PING_ROUNDS: usize = 5;
const PINGS_PER_SECOND: usize = 1_000;
const PINGING: Duration = Duration::from_secs(3);

/// The number of `MGET` commands of redis-benchmark, and its connections.
const REQUESTS: usize = 8_000;
const CONNECTIONS: usize = 50;

pub(crate) async fn run() -> Vec<Row> {
    let redis = RedisServer::start().await;
    // No user may expire before the last round.
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    let settings = settings.with("PRESENCE_TTL", "1h");
    let service = Instance::start(&settings).await;
    load(service.address(), IDS, |user| {
        post(&format!("/v1/users/user-{user}/connect"))
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lookup.json");
    let ids: Vec<String> = (0..IDS).map(|user| format!("user-{user}")).collect();
    std::fs::write(&file, serde_json::json!({ "userIds": ids }).to_string()).expect("a file");
    let (mut ours, mut theirs) = (Figure::default(), Figure::default());
    let url = service.url("/v1/online");
    for _ in 0..ROUNDS {
        let round = round(service.process(), &url, LOOKUP, &file);
        ours.push(round.per_second * IDS as f64);
        theirs.push(mget_per_second(&redis, &ids) * IDS as f64);
    }
    let (slower, beside) = pings_beside(&service, &url, &file).await;
    let claim = "lookup of 1,000 ids";
    vec![
        Row::new(
            claim,
            "ids/s over redis-benchmark's MGET",
            ours.over(&theirs),
        )
        .at_least(0.5),
        Row::new(claim, "ids/s", ours),
        Row::new(claim, "p99 of pings meanwhile over the quiet one", slower),
        Row::new(claim, "p99 of pings meanwhile, ms", beside),
    ]
}

/// The p99 of pings during lookups: divided by the p99 without lookups, and in milliseconds.
async fn pings_beside(service: &Instance, url: &str, file: &Path) -> (Figure, Figure) {
    let ping = ping_one_of(PINGS_PER_SECOND);
    load(service.address(), PINGS_PER_SECOND, ping).await;
    let pings = || paced_apart(service.address(), PINGS_PER_SECOND, PINGING, ping);
    let (mut slower, mut beside) = (Figure::default(), Figure::default());
    for _ in 0..PING_ROUNDS {
        let quiet = p99_ms(&pings().await);
        let pings = tokio::spawn(pings());
        round(service.process(), url, LOOKUP, file);
        let busy = p99_ms(&pings.await.expect("all were answered"));
        slower.push(busy / quiet);
        beside.push(busy);
    }
    (slower, beside)
}

fn mget_per_second(redis: &RedisServer, ids: &[String]) -> f64 {
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &redis.port().to_string(), "--csv"]);
    command.args([
        "-c",
        &CONNECTIONS.to_string(),
        "-n",
        &REQUESTS.to_string(),
        "MGET",
    ]);
    command.args(ids.iter().map(|id| format!("presence:user:{id}")));
    let output = command
        .output()
        .expect("benches/install installs redis-tools");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    // The first field is the test name, which contains the whole command.
    let line = shown.lines().last().unwrap_or_default();
    let rate = line
        .split("\",\"")
        .nth(1)
        .and_then(|rate| rate.trim_matches('"').parse().ok());
    rate.unwrap_or_else(|| panic!("redis-benchmark said {shown}"))
}
