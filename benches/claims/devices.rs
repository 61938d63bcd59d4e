//! Pings of connections with an id, pings of users with two devices, and transitions, beside pings of unnamed
//! connections.
//!
//! The aims of the design for two devices and for transitions are not met; their targets only show when they get worse.
//! `benches/RESULTS.md` gives the reasons.

use std::path::Path;

use harness::instance::Instance;
use harness::redis_server::RedisServer;

use crate::measure::micros_each;
use crate::measure::report::{Figure, Row};
use crate::measure::wrk::{REQUESTS, requests, round};

const ROUNDS: usize = 7;

/// The users of each kind.
const USERS: usize = 10_000;

/// The kinds of calls, each with its own users.
const KINDS: [&str; 4] = ["unnamed", "named", "two-devices", "transitions"];

/// Number of users that connect before the first of them disconnects. At most this many calls are in flight.
const CONNECTING: usize = 500;

/// The ids that clients choose are often UUIDs.
const DEVICES: [&str; 2] = [
    "0b5f4a9e-52a7-4c2b-9f0e-6f5c1f0a7d31",
    "f3a1d7c0-8e64-4b1d-a2c9-04f6b1e95a88",
];

/// The figures of one kind of calls, one value for each round.
#[derive(Default)]
struct Found {
    per_second: Figure,
    redis_micros: Figure,
}

pub(crate) async fn run() -> Vec<Row> {
    let redis = RedisServer::start().await;
    let service = Instance::on(&redis).await;
    let folder = tempfile::tempdir().expect("a folder");
    let files = KINDS.map(|kind| folder.path().join(kind));
    for (kind, file) in KINDS.iter().zip(&files) {
        requests(file, calls(kind).into_iter());
    }
    // The first round brings the users online and is not counted.
    for file in &files {
        one_round(&redis, &service, file);
    }
    let mut found: [Found; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (found, file) in found.iter_mut().zip(&files) {
            let (per_second, redis_micros) = one_round(&redis, &service, file);
            found.per_second.push(per_second);
            found.redis_micros.push(redis_micros);
        }
    }
    rows(&found)
}

/// The calls of a kind, in their order.
fn calls(kind: &str) -> Vec<String> {
    let ping = |user, device| {
        format!("POST /v1/users/{kind}-{user}/ping {{\"connectionId\":\"{device}\"}}")
    };
    let users: Vec<usize> = (0..USERS).collect();
    match kind {
        "unnamed" => users
            .iter()
            .map(|user| format!("POST /v1/users/{kind}-{user}/ping"))
            .collect(),
        "named" => users.iter().map(|user| ping(user, DEVICES[0])).collect(),
        "two-devices" => DEVICES
            .iter()
            .flat_map(|device| users.iter().map(move |user| ping(user, device)))
            .collect(),
        _ => users
            .chunks(CONNECTING)
            .flat_map(|users| ["connect", "disconnect"].map(|verb| (verb, users)))
            .flat_map(|(verb, users)| {
                let call = move |user| format!("POST /v1/users/{kind}-{user}/{verb}");
                users.iter().map(call)
            })
            .collect(),
    }
}

/// The calls per second, and the processor time of Redis for each call in microseconds.
fn one_round(redis: &RedisServer, service: &Instance, file: &Path) -> (f64, f64) {
    let before = redis.process().cpu();
    let round = round(service.process(), &service.url(""), REQUESTS, file);
    let spent = redis.process().cpu() - before;
    (round.per_second, micros_each(spent, round.requests))
}

fn rows([unnamed, named, two, transitions]: &[Found; 4]) -> Vec<Row> {
    let claim = "devices";
    let rate = |what: &str, found: &Found| {
        let what = format!("{what}: calls/s over those of unnamed pings");
        Row::new(claim, what, found.per_second.over(&unnamed.per_second))
    };
    let cpu = |what: &str, found: &Found| {
        let what = format!("{what}: CPU of Redis over that of unnamed pings");
        Row::new(claim, what, found.redis_micros.over(&unnamed.redis_micros))
    };
    let micros = |what: &str, found: &Found| {
        let what = format!("{what}: CPU of Redis, µs");
        Row::new(claim, what, found.redis_micros.clone())
    };
    vec![
        rate("pings of an id", named).at_least(0.9),
        cpu("pings of an id", named).at_most(1.6),
        rate("pings of two devices in turn", two)
            .at_least(0.6)
            .aim(0.9),
        cpu("pings of two devices in turn", two)
            .at_most(2.2)
            .aim(1.6),
        rate("connects and disconnects", transitions)
            .at_least(0.3)
            .aim(0.55),
        micros("unnamed pings", unnamed),
        micros("pings of an id", named),
        micros("pings of two devices in turn", two),
        micros("connects and disconnects", transitions),
        Row::new(claim, "unnamed pings/s", unnamed.per_second.clone()),
    ]
}
