//! More callers than may wait for a frozen Redis.

use std::str::FromStr;
use std::time::Duration;

use harness::client::{Answer, crowd};
use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;
use harness::serial::run_alone;
use harness::wait::eventually;
use reqwest::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::pingers::{PROMISE, assert_refused};
use super::scene::all_ready;

/// The number of concurrent callers, several times as many as may wait.
const CALLERS: usize = 5_000;

/// The callers that come first: more than may wait for a silent Redis.
const FIRST_CALLERS: usize = 3_000;

/// The time from the first callers to the others: longer than Redis may be silent before calls are refused, and shorter
/// than the deadline of a call.
const PAUSE: Duration = Duration::from_millis(400);

/// The number of rounds after which the most calls that can wait have waited at once, also on a slow machine.
const FULL_SIZE: usize = 3;

/// The factor by which the memory may grow from these rounds to the last one.
const GROWTH: f64 = 1.25;

/// The results of the pings of one round.
#[derive(Debug, Default)]
struct Crowd {
    answered: usize,
    /// Calls that were refused by the load shedder.
    turned_away: usize,
    /// Calls that were refused because Redis did not answer.
    unreachable: usize,
    took: Duration,
}

/// A connection for each caller. A caller then only writes a few bytes, and is as fast as the instance on the same slow
/// machine.
async fn everyone_connects(instance: &Instance) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..CALLERS {
        let connection = TcpStream::connect(instance.address()).await;
        connections.push(connection.expect("a connection"));
    }
    connections
}

/// Pings all users, in two groups.
async fn everyone_pings(connections: Vec<TcpStream>, users: &[String]) -> Crowd {
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for (number, (user, connection)) in users.iter().zip(connections).enumerate() {
        if number == FIRST_CALLERS {
            sleep(PAUSE).await;
        }
        calls.spawn(ping(connection, user.clone()));
    }
    let mut crowd = Crowd::default();
    for answer in calls.join_all().await {
        if answer.status == 200 {
            crowd.answered += 1;
            continue;
        }
        assert_refused(&answer);
        if answer.body.contains("store-overloaded") {
            crowd.turned_away += 1;
        } else {
            crowd.unreachable += 1;
        }
    }
    crowd.took = began.elapsed();
    crowd
}

async fn ping(mut connection: TcpStream, user: String) -> Answer {
    let head = format!("POST /v1/users/{user}/ping HTTP/1.1\r\nHost: localhost\r\n");
    let rest = "Content-Length: 0\r\nConnection: close\r\n\r\n";
    let request = [head.as_bytes(), rest.as_bytes()].concat();
    connection.write_all(&request).await.expect("a write");
    let mut answer = String::new();
    let read = connection.read_to_string(&mut answer).await;
    read.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let (status, headers) = head.split_once("\r\n").expect("headers");
    let status = status.split(' ').nth(1).map(str::parse);
    let headers = headers.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| {
        let value = HeaderValue::from_str(value).expect("a value");
        (HeaderName::from_str(name).expect("a name"), value)
    });
    Answer {
        status: status.and_then(Result::ok).expect("a status"),
        headers: headers.collect(),
        body: body.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_before_a_frozen_redis_is_refused_at_once_and_costs_no_memory() {
    run_alone();
    let redis = RedisServer::start().await;
    let instance = Instance::start(&Settings::new().with("REDIS_URL", &redis.url())).await;
    let client = instance.client();
    let users = crowd("user", CALLERS);
    all_ready(std::slice::from_ref(&client)).await;
    client.connect_each(&users).await;
    let first = eventually(
        "a crowd comes faster than Redis is found mute",
        async || {
            redis.thaw();
            all_ready(std::slice::from_ref(&client)).await;
            let connections = everyone_connects(&instance).await;
            redis.freeze();
            let crowd = everyone_pings(connections, &users).await;
            (crowd.turned_away > 0).then_some(crowd)
        },
    )
    .await;
    // This is the time of all calls together, on a machine that may be slow.
    assert!(first.took < 5 * PROMISE, "{first:?}");
    let mut held = instance.resident_kib();
    for round in 0..6 {
        let next = everyone_pings(everyone_connects(&instance).await, &users).await;
        assert_eq!(next.unreachable + next.turned_away, CALLERS, "{next:?}");
        if round < FULL_SIZE {
            held = held.max(instance.resident_kib());
        }
    }
    let held_later = instance.resident_kib();
    assert!(
        (held_later as f64) < held as f64 * GROWTH,
        "{held} KiB after the first crowds, {held_later} KiB after the last"
    );
    redis.thaw();
    all_ready(std::slice::from_ref(&client)).await;
    client.connect_each(&users).await;
    assert_eq!(client.count().await, CALLERS as u64);
}
