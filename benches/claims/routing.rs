//! The cost of transitions of users that no stream watches, with few and with many streams of other users.

use std::time::Duration;

use harness::instance::Instance;
use harness::redis_server::RedisServer;
use tokio::time::sleep;

use crate::measure::calls::{come_and_go, paced, post_body};
use crate::measure::micros_each;
use crate::measure::report::{Figure, Row};
use crate::measure::streams::{OUR_EVENT, Readers};

const ROUNDS: usize = 3;
const WATCHED: usize = 20;
const PER_SECOND: usize = 4_000;
const LASTING: Duration = Duration::from_secs(8);

pub(crate) async fn run() -> Vec<Row> {
    let (mut few, mut many) = (Figure::default(), Figure::default());
    for _ in 0..ROUNDS {
        few.push(micros_with(100).await);
        many.push(micros_with(8_000).await);
    }
    let claim = "transitions without a stream";
    vec![
        Row::new(
            claim,
            "CPU with 8,000 streams over with 100",
            many.over(&few),
        )
        .at_most(1.3),
        Row::new(claim, "CPU with 8,000 streams, µs", many),
    ]
}

/// Processor time of such a transition, in microseconds, without the time that the open streams take by themselves.
async fn micros_with(streams: usize) -> f64 {
    let redis = RedisServer::start().await;
    let service = Instance::on(&redis).await;
    let _streams = Readers::open(service.address(), streams, OUR_EVENT, 1, watching).await;
    let before = service.process().cpu();
    sleep(LASTING).await;
    let quiet = service.process().cpu() - before;
    let before = service.process().cpu();
    let calls = paced(service.address(), PER_SECOND, LASTING, come_and_go).await;
    let busy = service.process().cpu() - before;
    micros_each(busy.saturating_sub(quiet), calls.len() as u64)
}

fn watching(stream: usize) -> Vec<u8> {
    let first = stream * WATCHED;
    let users = (first..first + WATCHED).map(|user| format!("watched-{user}"));
    let body = serde_json::json!({ "userIds": users.collect::<Vec<_>>() });
    post_body("/v1/events", "application/json", &body.to_string())
}
