//! The cost of a ping with a thousand and with a million online users.

use std::path::Path;

use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;

use crate::measure::calls::{load, post};
use crate::measure::report::{Figure, Row};
use crate::measure::wrk::{REQUESTS, requests, round};

const ROUNDS: usize = 5;
const FEW: usize = 1_000;
const MANY: usize = 1_000_000;

/// With a million users, every fifth one is pinged.
const STEP: usize = 5;

pub(crate) async fn run() -> Vec<Row> {
    // Both sizes exist at once, so that they are measured in turn. No user expires meanwhile.
    let worlds = [
        (FEW, RedisServer::start().await),
        (MANY, RedisServer::start().await),
    ];
    let services = [on(&worlds[0].1).await, on(&worlds[1].1).await];
    let folder = tempfile::tempdir().expect("a folder");
    let files = [FEW, MANY].map(|users| folder.path().join(users.to_string()));
    let mut bytes_each = 0.0;
    for ((users, redis), (service, file)) in worlds.iter().zip(services.iter().zip(&files)) {
        let before = redis.info("memory", "used_memory").await;
        load(service.address(), *users, |user| {
            post(&format!("/v1/users/user-{user}/connect"))
        })
        .await;
        // The history of the connects is not a part of the lasting cost of a user.
        let grown = redis.info("memory", "used_memory").await
            - before
            - redis.memory_of("presence:events").await;
        bytes_each = grown as f64 / *users as f64;
        let pinged = (0..*users).step_by(if *users == MANY { STEP } else { 1 });
        requests(
            file,
            pinged.map(|user| format!("POST /v1/users/user-{user}/ping")),
        );
    }
    let (mut few, mut many) = (Figure::default(), Figure::default());
    let ours =
        |of: &Instance, file: &Path| round(of.process(), &of.url(""), REQUESTS, file).cpu_micros;
    for _ in 0..ROUNDS {
        few.push(ours(&services[0], &files[0]));
        many.push(ours(&services[1], &files[1]));
    }
    let claim = "1,000,000 users online";
    vec![
        Row::new(
            claim,
            "CPU of a ping over that among 1,000",
            many.over(&few),
        )
        .at_most(1.1),
        Row::new(claim, "bytes of Redis for each", bytes_each).at_most(250.0),
    ]
}

/// An instance on `redis` whose users stay online for the whole measurement.
async fn on(redis: &RedisServer) -> Instance {
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    Instance::start(&settings.with("PRESENCE_TTL", "30m")).await
}
