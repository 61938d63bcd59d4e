//! Looking up a thousand users, beside what Redis itself can do.

use std::process::Command;

use crate::harness::calls::{load, post};
use crate::harness::report::{Figure, Row};
use crate::harness::service::{Redis, Service};
use crate::harness::wrk::round;

const ROUNDS: usize = 5;
const IDS: usize = 1_000;

/// `MGET`s that redis-benchmark sends, and on how many connections.
const REQUESTS: usize = 8_000;
const CONNECTIONS: usize = 50;

pub(crate) async fn run() -> Vec<Row> {
    let redis = Redis::start();
    let service = Service::on(&redis);
    load(service.address, IDS, |user| {
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
        let round = round(&service.process, &url, "benches/claims/lookup.lua", &file);
        ours.push(round.per_second * IDS as f64);
        theirs.push(mget_per_second(&redis, &ids) * IDS as f64);
    }
    let claim = "look-up of 1,000 ids";
    vec![
        Row::new(
            claim,
            "ids/s over redis-benchmark's MGET",
            ours.over(&theirs),
        )
        .at_least(0.5),
        Row::new(claim, "ids/s", ours),
    ]
}

fn mget_per_second(redis: &Redis, ids: &[String]) -> f64 {
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &redis.port.to_string(), "--csv"]);
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
    // The name of the test, which holds the whole command, comes first.
    let line = shown.lines().last().unwrap_or_default();
    let rate = line
        .split("\",\"")
        .nth(1)
        .and_then(|rate| rate.trim_matches('"').parse().ok());
    rate.unwrap_or_else(|| panic!("redis-benchmark said {shown}"))
}
