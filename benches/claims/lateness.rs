//! How late the departure of those who fall silent is told, among many who keep pinging.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::harness::calls::Population;
use crate::harness::report::{Row, quantile_ms};
use crate::harness::service::{Redis, Service};
use crate::harness::streams::Watcher;

/// The defaults of the service.
const TTL: Duration = Duration::from_secs(60);
const PING_INTERVAL: Duration = Duration::from_secs(25);

/// How many fall silent.
const MORTALS: usize = 5_000;

/// Sweeps pause so long, to tell what they cost Redis; afterwards they catch up.
const PAUSE: Duration = Duration::from_secs(5);
const CAUGHT_UP: Duration = Duration::from_secs(10);

/// How long after the last deadline a departure is still waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn run() -> Vec<Row> {
    let mut rows = Vec::new();
    for (users, rounds) in [(200_000, 1), (1_000_000, 8)] {
        rows.extend(among(users, rounds).await);
    }
    rows
}

/// Among `users`, who come online over `rounds` ping intervals.
async fn among(users: usize, rounds: usize) -> Vec<Row> {
    let redis = Redis::start();
    let services = [Service::on(&redis), Service::on(&redis)];
    let addresses = services.each_ref().map(|service| service.address);
    let watcher = Watcher::open(addresses[1]).await;
    let step = users / MORTALS;
    let is_mortal = move |user: usize| user.is_multiple_of(step);
    let mut population = Population::start(&addresses, users, (rounds, PING_INTERVAL), is_mortal);
    // Everyone has come online and pinged again.
    sleep(PING_INTERVAL * (rounds as u32 + 1)).await;
    let behind_at_first = population.behind().as_secs_f64();
    let before = unswept(&redis).await;
    sleep(CAUGHT_UP).await;
    let departures = async {
        let last_pings = population.fall_silent(PING_INTERVAL).await;
        assert_eq!(last_pings.len(), MORTALS);
        let seen = watcher.wait("user.offline", MORTALS, TTL + PATIENCE).await;
        (last_pings, seen)
    };
    let (whole, (last_pings, seen)) = share_during(&redis, departures).await;
    let behind = population.behind().as_secs_f64();
    let sweeping = whole - (before + unswept(&redis).await) / 2.0;
    let deadlines: HashMap<String, Instant> = last_pings
        .into_iter()
        .map(|(user, last)| (format!("user-{user}"), last + TTL))
        .collect();
    let left = seen.iter().filter(|event| event.name == "user.offline");
    let left: Vec<_> = left.collect();
    let living = left
        .iter()
        .filter(|event| !deadlines.contains_key(&event.user))
        .count();
    let told: HashSet<&str> = left.iter().map(|event| event.user.as_str()).collect();
    assert_eq!(told.len(), left.len(), "nobody was announced twice");
    let of_mortals = left
        .iter()
        .filter_map(|event| Some((event, deadlines.get(&event.user)?)));
    let mut late: Vec<Duration> = of_mortals
        .map(|(event, deadline)| event.at.saturating_duration_since(*deadline))
        .collect();
    let announced = late.len() as f64 / MORTALS as f64 * 100.0;
    let what = |text: &str| format!("{text}, {users} users");
    let claim = "lateness of user.offline";
    vec![
        Row::new(claim, what("announced, % of 5,000"), announced).at_least(100.0),
        Row::new(claim, what("announced although they ping"), living as f64).at_most(0.0),
        Row::new(claim, what("p99, ms"), quantile_ms(&mut late, 0.99)).at_most(250.0),
        Row::new(claim, what("p50, ms"), quantile_ms(&mut late, 0.5)),
        Row::new(
            claim,
            what("sweeping, % of a core of Redis"),
            sweeping * 100.0,
        )
        .at_most(15.0),
        Row::new(claim, what("Redis in all, % of a core"), whole * 100.0),
        Row::new(
            claim,
            what("pings behind while they come online, s"),
            behind_at_first,
        ),
        Row::new(claim, what("pings behind afterwards, s"), behind),
    ]
}

/// The share of a core that Redis takes while all pings go on and nobody sweeps, as after an outage.
async fn unswept(redis: &Redis) -> f64 {
    redis.set("presence:grace", "1", PAUSE);
    let (share, ()) = share_during(redis, sleep(PAUSE)).await;
    share
}

/// The share of a core that Redis takes meanwhile, and what came of it.
async fn share_during<T>(redis: &Redis, meanwhile: impl Future<Output = T>) -> (f64, T) {
    let (began, before) = (Instant::now(), redis.process.cpu());
    let output = meanwhile.await;
    let spent = redis.process.cpu() - before;
    (spent.as_secs_f64() / began.elapsed().as_secs_f64(), output)
}
