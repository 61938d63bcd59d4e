//! A Redis Cluster of three masters beside one Redis: pings, lookups, departures, and the memory of a user.

use std::path::Path;
use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::redis_cluster::RedisCluster;
use harness::redis_server::RedisServer;
use tokio::time::{Instant, sleep};

use crate::measure::calls::{Population, load, post};
use crate::measure::micros_each;
use crate::measure::report::{Figure, Row, quantile_ms};
use crate::measure::streams::Watcher;
use crate::measure::wrk::{LOOKUP, REQUESTS, requests, round};

const CLAIM: &str = "a cluster of three masters";
const ROUNDS: usize = 7;
const USERS: usize = 2_000;
const IDS: usize = 1_000;

/// The users whose memory is measured.
const MANY: usize = 1_000_000;

/// The users that ping while departures are measured, and how many of them stop.
const PINGING: usize = 100_000;
const MORTALS: usize = 2_000;
const TTL: Duration = Duration::from_secs(60);
const PING_INTERVAL: Duration = Duration::from_secs(25);
const TIMEOUT: Duration = Duration::from_secs(30);

/// What stores the users: one Redis, or a cluster.
enum Store {
    One(RedisServer),
    Cluster(RedisCluster),
}

impl Store {
    fn settings(&self) -> Settings {
        let url = match self {
            Self::One(redis) => redis.url(),
            Self::Cluster(cluster) => cluster.url(),
        };
        Settings::new().with("REDIS_URL", &url)
    }

    /// The processor time of all masters.
    async fn cpu(&self) -> Duration {
        match self {
            Self::One(redis) => redis.process().cpu(),
            Self::Cluster(cluster) => {
                let masters = cluster.masters().await;
                let cpu = |master: usize| cluster.node(master).process().cpu();
                masters.into_iter().map(cpu).sum()
            }
        }
    }
}

pub(crate) async fn run() -> Vec<Row> {
    let stores = [
        Store::One(RedisServer::start().await),
        Store::Cluster(RedisCluster::start().await),
    ];
    let mut services = Vec::new();
    for store in &stores {
        let settings = store.settings().with("PRESENCE_TTL", "30m");
        services.push(Instance::start(&settings).await);
    }
    let mut rows = calls(&stores, &services).await;
    drop(services);
    drop(stores);
    rows.push(memory().await);
    rows.extend(departures().await);
    rows
}

/// Pings and lookups, in turn on both stores.
async fn calls(stores: &[Store; 2], services: &[Instance]) -> Vec<Row> {
    let folder = tempfile::tempdir().expect("a folder");
    let [pings, lookup] = ["pings", "lookup"].map(|name| folder.path().join(name));
    requests(
        &pings,
        (0..USERS).map(|user| format!("POST /v1/users/user-{user}/ping")),
    );
    let ids: Vec<String> = (0..IDS).map(|user| format!("user-{user}")).collect();
    std::fs::write(&lookup, serde_json::json!({ "userIds": ids }).to_string()).expect("a file");
    let pinged = in_turn(stores, services, ("", REQUESTS, &pings)).await;
    let looked_up = in_turn(stores, services, ("/v1/online", LOOKUP, &lookup)).await;
    let mut rows = Vec::new();
    for (what, [one, cluster]) in [("pings", pinged), ("lookups of 1,000 ids", looked_up)] {
        rows.extend([
            Row::new(
                CLAIM,
                format!("{what}: requests/s over those of one Redis"),
                cluster.rate.over(&one.rate),
            ),
            Row::new(
                CLAIM,
                format!("{what}: CPU of the service over that with one Redis"),
                cluster.service.over(&one.service),
            ),
            Row::new(
                CLAIM,
                format!("{what}: CPU of all masters over that of one Redis"),
                cluster.masters.over(&one.masters),
            ),
        ]);
    }
    rows
}

/// The figures of calls on one store.
#[derive(Default)]
struct Found {
    rate: Figure,
    service: Figure,
    masters: Figure,
}

async fn in_turn(
    stores: &[Store; 2],
    services: &[Instance],
    (path, script, file): (&str, &str, &Path),
) -> [Found; 2] {
    let mut found: [Found; 2] = Default::default();
    // The first round brings all users online and is not counted.
    for number in 0..=ROUNDS {
        for (found, (store, service)) in found.iter_mut().zip(stores.iter().zip(services)) {
            let before = store.cpu().await;
            let round = round(service.process(), &service.url(path), script, file);
            let spent = store.cpu().await - before;
            if number > 0 {
                found.rate.push(round.per_second);
                found.service.push(round.cpu_micros);
                found.masters.push(micros_each(spent, round.requests));
            }
        }
    }
    found
}

/// The bytes of a user on the masters. Replicas double them.
async fn memory() -> Row {
    let cluster = RedisCluster::start().await;
    let settings = Settings::new().with("REDIS_URL", &cluster.url());
    let settings = settings.with("PRESENCE_TTL", "30m");
    let service = Instance::start(&settings).await;
    let before = used_memory(&cluster).await;
    load(service.address(), MANY, |user| {
        post(&format!("/v1/users/user-{user}/connect"))
    })
    .await;
    let names = settings.names().with(None, Some(PARTITIONS));
    let mut history = 0;
    for master in cluster.masters().await {
        let partitions = cluster.partitions_of(&names, master).await;
        let keys = names.all("events");
        let keys: Vec<String> = partitions
            .iter()
            .map(|place| keys[*place].clone())
            .collect();
        history += cluster.node(master).memory_of_all(&keys).await;
    }
    // The history of the connects is not a part of the lasting cost of a user.
    let grown = used_memory(&cluster).await - before - history;
    let each = grown as f64 / MANY as f64;
    // Redis of Debian does not meet the aim; `benches/RESULTS.md` gives the reason.
    let what = "bytes of Redis for each of 1,000,000 users";
    Row::new(CLAIM, what, each).at_most(265.0).aim(250.0)
}

/// The number of partitions on a cluster by default.
const PARTITIONS: usize = 64;

async fn used_memory(cluster: &RedisCluster) -> u64 {
    let mut sum = 0;
    for master in cluster.masters().await {
        sum += cluster.node(master).info("memory", "used_memory").await;
    }
    sum
}

/// The lateness of departures among users that ping.
async fn departures() -> Vec<Row> {
    let mut p99 = Vec::new();
    for is_cluster in [false, true] {
        let store = if is_cluster {
            Store::Cluster(RedisCluster::start().await)
        } else {
            Store::One(RedisServer::start().await)
        };
        p99.push(lateness(&store).await);
    }
    vec![
        Row::new(CLAIM, "p99 of the lateness of user.offline, ms", p99[1]).at_most(250.0),
        Row::new(CLAIM, "the same on one Redis, ms", p99[0]),
    ]
}

/// The p99 in milliseconds. Panics unless exactly the users that stopped are announced.
async fn lateness(store: &Store) -> f64 {
    let settings = store.settings();
    let services = [
        Instance::start(&settings).await,
        Instance::start(&settings).await,
    ];
    let addresses = services.each_ref().map(Instance::address);
    let watcher = Watcher::open(addresses[1]).await;
    let step = PINGING / MORTALS;
    let is_mortal = move |user: usize| user.is_multiple_of(step);
    let population = Population::start(&addresses, PINGING, (1, PING_INTERVAL), is_mortal);
    sleep(PING_INTERVAL * 2).await;
    let last_pings = population.fall_silent().await;
    let seen = watcher.wait("user.offline", MORTALS, TTL + TIMEOUT).await;
    population.end().await;
    let gone: Vec<_> = seen
        .iter()
        .filter(|event| event.name == "user.offline")
        .collect();
    assert_eq!(gone.len(), MORTALS, "exactly the silent users leave");
    let mut late = Vec::new();
    for (user, last) in last_pings {
        let user = format!("user-{user}");
        let event = gone.iter().find(|event| event.user == user);
        let at: Instant = event.expect("each silent user leaves").at;
        late.push(at.saturating_duration_since(last + TTL));
    }
    quantile_ms(&mut late, 0.99)
}
