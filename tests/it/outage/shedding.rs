//! More callers than a mute Redis leaves room for.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::pingers::{PROMISE, assert_refused};
use super::scene::all_ready;
use crate::client::{Client, crowd, try_send};
use crate::instance::{Instance, Settings};
use crate::process::Signal;
use crate::redis_server::RedisServer;
use crate::wait::{eventually, eventually_true};

/// Callers at once; several times as many as may wait for a silent Redis.
const CALLERS: usize = 5_000;

/// How many of them come first, at one moment; more than may wait for a silent Redis.
const FIRST: usize = 3_000;

/// How long the first may take to put their requests into the sockets of an instance that stands still.
const SENDING: Duration = Duration::from_secs(1);

/// Longer than Redis may answer nobody before it counts as silent, and shorter than anybody waits for it.
const SILENT: Duration = Duration::from_millis(600);

/// How much more memory may be held after the last round than after the first.
const GROWTH: f64 = 1.25;

/// What became of a crowd's pings.
#[derive(Debug, Default)]
struct Crowd {
    answered: usize,
    /// Refused because too many were waiting.
    turned_away: usize,
    /// Refused because Redis did not answer.
    unreachable: usize,
    took: Duration,
}

impl Crowd {
    fn and(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            turned_away: self.turned_away + other.turned_away,
            unreachable: self.unreachable + other.unreachable,
            took: self.took.max(other.took),
        }
    }
}

/// Pings for everyone at once.
async fn everyone_pings(client: &Client, users: &[String]) -> Crowd {
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for user in users {
        let request = client.of_user(user, "ping");
        calls.spawn(async move { try_send(request).await.expect("an answer") });
    }
    let mut crowd = Crowd::default();
    for answer in calls.join_all().await {
        if answer.status == 200 {
            crowd.answered += 1;
            continue;
        }
        assert_refused(&answer);
        match answer.body.contains("store-overloaded") {
            true => crowd.turned_away += 1,
            false => crowd.unreachable += 1,
        }
    }
    crowd.took = began.elapsed();
    crowd
}

/// Freezes Redis and pings for everyone. The first find an instance that stands still until all have come, so that it
/// has to deal with all of them at one moment, however slow this machine is.
async fn everyone_pings_in_vain(
    redis: &RedisServer,
    instance: &Instance,
    users: &[String],
) -> Crowd {
    let client = instance.client();
    instance.send(Signal::Stop);
    redis.freeze();
    let (first, others) = users.split_at(FIRST);
    let (mut first, others) = tokio::join!(everyone_pings(&client, first), async {
        sleep(SENDING).await;
        instance.send(Signal::Continue);
        sleep(SILENT).await;
        everyone_pings(&client, others).await
    });
    first.took = first.took.saturating_sub(SENDING);
    first.and(others)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_before_a_frozen_redis_is_refused_at_once_and_costs_no_memory() {
    let redis = RedisServer::start().await;
    let instance = Instance::start(&Settings::new().with("REDIS_URL", &redis.url())).await;
    let client = instance.client();
    let users = crowd("user", CALLERS);
    all_ready(std::slice::from_ref(&client)).await;
    assert_eq!(everyone_pings(&client, &users).await.answered, CALLERS);
    let first = eventually(
        "a crowd comes faster than Redis is found mute",
        async || {
            redis.thaw();
            all_ready(std::slice::from_ref(&client)).await;
            let crowd = everyone_pings_in_vain(&redis, &instance, &users).await;
            (crowd.turned_away > 0).then_some(crowd)
        },
    )
    .await;
    assert!(first.took < 2 * PROMISE, "{first:?}");
    let held = instance.resident_kib();
    for _ in 0..5 {
        let next = everyone_pings(&client, &users).await;
        assert_eq!(next.unreachable + next.turned_away, CALLERS, "{next:?}");
    }
    let held_later = instance.resident_kib();
    assert!(
        (held_later as f64) < held as f64 * GROWTH,
        "{held} KiB after the first crowd, {held_later} KiB after the sixth"
    );
    redis.thaw();
    eventually_true("everyone gets through", async || {
        everyone_pings(&client, &users).await.answered == CALLERS
    })
    .await;
    assert_eq!(client.count().await, CALLERS as u64);
}
