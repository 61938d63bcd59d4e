//! The time from a call to one instance until the event on a stream of another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use harness::instance::Instance;
use harness::redis_server::RedisServer;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::measure::calls::{paced, post};
use crate::measure::report::{Figure, Row, quantile_ms};
use crate::measure::streams::Watcher;

const ROUNDS: usize = 3;
const PER_SECOND: usize = 2_000;
const LASTING: Duration = Duration::from_secs(8);
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn run() -> Vec<Row> {
    let (mut median, mut p99) = (Figure::default(), Figure::default());
    for _ in 0..ROUNDS {
        let mut times = times().await;
        median.push(quantile_ms(&mut times, 0.5));
        p99.push(quantile_ms(&mut times, 0.99));
    }
    let claim = "call to stream on another instance, 2,000/s";
    vec![
        Row::new(claim, "p99, ms from before the call", p99).at_most(10.0),
        Row::new(claim, "p50, ms", median),
    ]
}

async fn times() -> Vec<Duration> {
    let redis = RedisServer::start().await;
    let (called, watched) = (Instance::on(&redis).await, Instance::on(&redis).await);
    let watcher = Watcher::open(watched.address()).await;
    let asked = Arc::<Mutex<HashMap<String, Instant>>>::default();
    let note = Arc::clone(&asked);
    let connect = move |number: usize| {
        let user = format!("arrival-{number}");
        let request = post(&format!("/v1/users/{user}/connect"));
        note.lock().insert(user, Instant::now());
        request
    };
    let calls = paced(called.address(), PER_SECOND, LASTING, connect).await;
    let seen = watcher.wait("user.online", calls.len(), TIMEOUT).await;
    assert_eq!(seen.len(), calls.len(), "every arrival has one event");
    let asked = asked.lock();
    seen.iter()
        .map(|event| event.at - asked[&event.user])
        .collect()
}
