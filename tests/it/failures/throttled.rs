//! Instances whose processor runs only while they serve a request, as on platforms that bill by the request: everything
//! else in them stands still. A cron calls `POST /v1/sweep`.
//!
//! Clients come and go at random. Meanwhile connections to Redis are closed and, in a long run, instances are killed,
//! all while they stand still. `PRESENCE_SOAK` sets the length, and `PRESENCE_SOAK_SEED` repeats the choices of another
//! run; `make soak-serverless` runs for five minutes.

mod checks;
mod platform;
mod story;

use std::env;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use harness::client::Client;
use harness::redis_server::RedisServer;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::soak::plan::duration;
use crate::ops::webhooks::receiver::{Conduct, Receiver};
use platform::Platform;
use story::{Call, Story, Sweep, Verb};

/// From this length on, a run has two instances and kills them. A killed instance may have the lease of the receiver,
/// which then ends by itself, and that takes longer than a short run.
const LONG: Duration = Duration::from_secs(60);

const USERS: usize = 12;

/// The pause between two calls of the cron.
const CRON: Duration = Duration::from_millis(1_500);

/// The share of the pauses between two requests in which connections to Redis are closed, or an instance is killed.
const CLOSED: f64 = 0.1;
const KILLED: f64 = 0.02;

/// Longer than the TTL of [`Settings::mortal`](harness::instance::Settings::mortal), and than the longest hold.
const SETTLING: Duration = Duration::from_millis(2_500);

/// The length of a run without `PRESENCE_SOAK`.
const SHORT: Duration = Duration::from_secs(5);

/// Prints how to repeat a failing run.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("to repeat it: PRESENCE_SOAK_SEED={}", self.0);
        }
    }
}

fn seed() -> Seed {
    let chosen = env::var("PRESENCE_SOAK_SEED").ok();
    let chosen = chosen.map(|text| text.parse().expect("PRESENCE_SOAK_SEED is a number"));
    Seed(chosen.unwrap_or_else(|| fastrand::u64(..)))
}

#[tokio::test]
async fn instances_that_run_only_during_requests_keep_their_promises() {
    let is_long = env::var_os("PRESENCE_SOAK").is_some();
    let (seed, length) = (seed(), if is_long { duration() } else { SHORT });
    println!("PRESENCE_SOAK={length:?} PRESENCE_SOAK_SEED={}", seed.0);
    let mut rng = Rng::with_seed(seed.0);
    let redis = RedisServer::start().await;
    let receiver = Receiver::start(Conduct::Answer(204)).await;
    let instances = if length < LONG { 1 } else { 2 };
    let mut platform = Platform::start(&redis, &receiver, instances).await;
    let mut story = Story::default();
    let (end, mut next_sweep) = (Instant::now() + length, Instant::now());
    while Instant::now() < end {
        if next_sweep <= Instant::now() {
            story.sweeps.push(sweep(&platform, &mut rng).await);
            next_sweep = Instant::now() + CRON;
        }
        let calls = some_calls(&platform, &mut rng).await;
        story.calls.extend(calls);
        if rng.f64() < CLOSED {
            platform.close_connections(&redis).await;
            story.closings += 1;
        }
        if length >= LONG && rng.f64() < KILLED {
            platform.replace(rng.usize(..instances)).await;
            story.kills += 1;
        }
        sleep(Duration::from_millis(rng.u64(10..250))).await;
    }
    // The last users fall silent, and nothing runs until the cron.
    for _ in 0..2 {
        sleep(SETTLING).await;
        story.sweeps.push(sweep(&platform, &mut rng).await);
    }
    story.events = platform.during(0, all_events).await;
    story.received = receiver.received();
    println!("{}", story.report());
    let wrong = checks::wrong(&story);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Calls of some users at once, at one instance.
async fn some_calls(platform: &Platform, rng: &mut Rng) -> Vec<Call> {
    let instance = rng.usize(..platform.instances());
    let mut users: Vec<usize> = (0..USERS).collect();
    rng.shuffle(&mut users);
    users.truncate(rng.usize(1..=4));
    let chosen: Vec<_> = users
        .into_iter()
        .map(|user| (format!("user-{user}"), Verb::any(rng)))
        .collect();
    platform
        .during(instance, async |client: Client| {
            join_all(chosen.iter().map(|(user, verb)| verb.call(&client, user))).await
        })
        .await
}

async fn sweep(platform: &Platform, rng: &mut Rng) -> Sweep {
    let instance = rng.usize(..platform.instances());
    platform
        .during(instance, async |client: Client| Sweep::by(&client).await)
        .await
}

/// All events that the service has, read as JSON.
async fn all_events(client: Client) -> Vec<Value> {
    let mut events = Vec::new();
    let mut cursor = "earliest".to_owned();
    loop {
        let path = format!("/v1/events?lastEventId={cursor}");
        let request = client.request(reqwest::Method::GET, &path);
        let request = request.header("Accept", "application/json");
        let answer = harness::client::send(request).await;
        let list: Value = answer.ok();
        events.extend(list["events"].as_array().expect("a list").iter().cloned());
        cursor = list["cursor"].as_str().expect("a cursor").to_owned();
        if list["more"] == json!(false) {
            return events;
        }
    }
}
