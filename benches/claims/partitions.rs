//! The cost of a ping with 64 partitions of the users, compared with one.

use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;

use crate::measure::micros_each;
use crate::measure::report::{Figure, Row};
use crate::measure::wrk::{REQUESTS, requests, round};

const ROUNDS: usize = 11;
const USERS: usize = 2_000;

pub(crate) async fn run() -> Vec<Row> {
    let servers = [RedisServer::start().await, RedisServer::start().await];
    let services = [
        Instance::start(&settings(&servers[0], "1")).await,
        Instance::start(&settings(&servers[1], "64")).await,
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pings");
    requests(
        &file,
        (0..USERS).map(|user| format!("POST /v1/users/user-{user}/ping")),
    );
    let mut rates: [Figure; 2] = Default::default();
    let mut micros: [Figure; 2] = Default::default();
    // The first round brings all users online and is not counted.
    for number in 0..=ROUNDS {
        for (place, (redis, service)) in servers.iter().zip(&services).enumerate() {
            let before = redis.process().cpu();
            let round = round(service.process(), &service.url(""), REQUESTS, &file);
            if number > 0 {
                rates[place].push(round.per_second);
                let spent = redis.process().cpu() - before;
                micros[place].push(micros_each(spent, round.requests));
            }
        }
    }
    let claim = "pings with 64 partitions";
    vec![
        Row::new(
            claim,
            "requests/s over those with one",
            rates[1].over(&rates[0]),
        ),
        Row::new(
            claim,
            "CPU of Redis over that with one",
            micros[1].over(&micros[0]),
        ),
        Row::new(claim, "CPU of Redis, µs", micros[1].clone()),
    ]
}

fn settings(redis: &RedisServer, partitions: &str) -> Settings {
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    settings.with("PRESENCE_PARTITIONS", partitions)
}
