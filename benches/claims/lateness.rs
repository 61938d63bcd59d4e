//! The lateness of departures while many other users ping.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use harness::instance::Instance;
use harness::redis_server::RedisServer;
use tokio::time::{Instant, sleep};

use crate::measure::calls::Population;
use crate::measure::report::{Row, quantile_ms};
use crate::measure::streams::{Seen, Watcher};

const CLAIM: &str = "lateness of user.offline";

/// The default settings.
const TTL: Duration = Duration::from_secs(60);
const PING_INTERVAL: Duration = Duration::from_secs(25);

/// The number of users that stop pinging.
const MORTALS: usize = 5_000;

/// The pause of the sweeps, which shows their cost in Redis. Afterwards the sweeps catch up.
const PAUSE: Duration = Duration::from_secs(5);
const CAUGHT_UP: Duration = Duration::from_secs(10);

/// The largest difference between the clock of Redis, in whole milliseconds, and that of the client.
const CLOCK: Duration = Duration::from_millis(2);

/// The longest wait for a departure after the last deadline.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn run() -> Vec<Row> {
    let mut rows = Vec::new();
    for (users, rounds) in [(200_000, 1), (1_000_000, 8)] {
        rows.extend(among(users, rounds).await);
    }
    rows
}

/// Measures with `users` users, which connect over `rounds` ping intervals.
async fn among(users: usize, rounds: usize) -> Vec<Row> {
    let redis = RedisServer::start().await;
    let services = [Instance::on(&redis).await, Instance::on(&redis).await];
    let addresses = services.each_ref().map(Instance::address);
    let watcher = Watcher::open(addresses[1]).await;
    let step = users / MORTALS;
    let is_mortal = move |user: usize| user.is_multiple_of(step);
    let population = Population::start(&addresses, users, (rounds, PING_INTERVAL), is_mortal);
    let load = Load {
        redis: &redis,
        population: &population,
    };
    // By then all users are online and have pinged again.
    sleep(PING_INTERVAL * (rounds as u32 + 1)).await;
    let behind_at_first = population.behind().as_secs_f64();
    let (before, ()) = load.during(unswept(&redis)).await;
    sleep(CAUGHT_UP).await;
    let departures = async {
        let last_pings = population.fall_silent().await;
        assert_eq!(last_pings.len(), MORTALS);
        let seen = watcher.wait("user.offline", MORTALS, TTL + TIMEOUT).await;
        (last_pings, seen)
    };
    let (whole, (last_pings, seen)) = load.during(departures).await;
    let behind = population.behind().as_secs_f64();
    let (after, ()) = load.during(unswept(&redis)).await;
    population.end().await;
    let of_a_ping = (before.cpu + after.cpu) / (before.pings + after.pings);
    let sweeping = (whole.cpu - whole.pings * of_a_ping) / whole.seconds;
    let what = |text: &str| format!("{text}, {users} users");
    let mut rows = Told::of(&seen, &last_pings).rows(what);
    rows.extend([
        Row::new(
            CLAIM,
            what("sweeping, % of a core of Redis"),
            sweeping * 100.0,
        )
        .at_most(15.0),
        Row::new(
            CLAIM,
            what("Redis in all, % of a core"),
            whole.cpu / whole.seconds * 100.0,
        ),
        Row::new(
            CLAIM,
            what("pings behind while they come online, s"),
            behind_at_first,
        ),
        Row::new(CLAIM, what("pings behind afterwards, s"), behind),
    ]);
    rows
}

/// The departures that a stream received.
#[derive(Default)]
struct Told {
    /// Departures of users that still ping.
    living: usize,
    /// Departures before the deadline.
    early: usize,
    /// The lateness of each departure of a user that stopped pinging.
    late: Vec<Duration>,
}

impl Told {
    /// The rows about the departures. `what` completes the name of a figure.
    fn rows(mut self, what: impl Fn(&str) -> String) -> Vec<Row> {
        let announced = self.late.len() as f64 / MORTALS as f64 * 100.0;
        let (living, early) = (self.living as f64, self.early as f64);
        let p99 = quantile_ms(&mut self.late, 0.99);
        let p50 = quantile_ms(&mut self.late, 0.5);
        vec![
            Row::new(CLAIM, what("announced, % of 5,000"), announced).at_least(100.0),
            Row::new(CLAIM, what("announced although they ping"), living).at_most(0.0),
            Row::new(CLAIM, what("announced too early"), early).at_most(0.0),
            Row::new(CLAIM, what("p99, ms"), p99).at_most(250.0),
            Row::new(CLAIM, what("p50, ms"), p50),
        ]
    }

    /// Sorts the events in `seen` by the last pings of the users that stopped.
    fn of(seen: &[Seen], last_pings: &[(usize, Instant)]) -> Self {
        let deadlines = last_pings
            .iter()
            .map(|(user, last)| (format!("user-{user}"), *last + TTL));
        let deadlines: HashMap<String, Instant> = deadlines.collect();
        let (mut told, mut users) = (Self::default(), HashSet::new());
        for event in seen.iter().filter(|event| event.name == "user.offline") {
            assert!(users.insert(&event.user), "a user was announced twice");
            let Some(deadline) = deadlines.get(&event.user) else {
                told.living += 1;
                continue;
            };
            if event.at + CLOCK < *deadline {
                told.early += 1;
            }
            let late = event.at.saturating_duration_since(*deadline);
            told.late.push(late);
        }
        told
    }
}

/// A time with pings and without sweeps, as after an outage.
async fn unswept(redis: &RedisServer) {
    // Each sweep uses `ZRANGE`, and no ping does.
    redis.allow("zrange", false).await;
    sleep(PAUSE).await;
    redis.allow("zrange", true).await;
}

/// The server and the users whose cost is measured.
struct Load<'a> {
    redis: &'a RedisServer,
    population: &'a Population,
}

/// The cost of a period: processor seconds of Redis, number of pings, and length in seconds.
struct Spent {
    cpu: f64,
    pings: f64,
    seconds: f64,
}

impl Load<'_> {
    /// The cost while `meanwhile` runs, and its result.
    async fn during<T>(&self, meanwhile: impl Future<Output = T>) -> (Spent, T) {
        let (began, cpu, pings) = (
            Instant::now(),
            self.redis.process().cpu(),
            self.population.pings(),
        );
        let output = meanwhile.await;
        let spent = Spent {
            cpu: (self.redis.process().cpu() - cpu).as_secs_f64(),
            pings: (self.population.pings() - pings) as f64,
            seconds: began.elapsed().as_secs_f64(),
        };
        (spent, output)
    }
}
