//! The cost of delivering all events to a thousand streams.

use std::time::Duration;

use harness::instance::Instance;
use harness::redis_server::RedisServer;

use crate::measure::calls::{come_and_go, paced, post_body};
use crate::measure::micros_each;
use crate::measure::peers::{PUBLISH, Peer, SUBSCRIBE};
use crate::measure::report::{Figure, Row};
use crate::measure::streams::{NCHAN_MESSAGE, OUR_EVENT, Readers, get};

const ROUNDS: usize = 3;
const STREAMS: usize = 1_000;
const LASTING: Duration = Duration::from_secs(8);

/// A message of the length of one of our events.
const MESSAGE: &str =
    r#"{"userId":"passer-by-1","timestamp":"2026-11-24T08:01:10.456Z","reason":"disconnected"}"#;

pub(crate) async fn run() -> Vec<Row> {
    let mut rows = Vec::new();
    for rate in [100, 400] {
        let (mut ours, mut theirs) = (Figure::default(), Figure::default());
        for _ in 0..ROUNDS {
            ours.push(our_micros(rate).await);
            theirs.push(nchan_micros(rate).await);
        }
        let what = |text: &str| format!("{text} at {rate} events/s");
        rows.extend([
            Row::new(
                "fan-out to 1,000 streams",
                what("CPU over nchan's"),
                ours.over(&theirs),
            )
            .at_most(1.0),
            Row::new("fan-out to 1,000 streams", what("CPU, µs"), ours),
            Row::new("fan-out to 1,000 streams", what("CPU of nchan, µs"), theirs),
        ]);
    }
    rows
}

/// Processor time of the service for each delivered event, in microseconds, including the calls that cause the events.
async fn our_micros(rate: usize) -> f64 {
    let redis = RedisServer::start().await;
    let service = Instance::on(&redis).await;
    let streams = Readers::open(service.address(), STREAMS, OUR_EVENT, 1, |_| {
        get("/v1/events", None)
    })
    .await;
    let before = service.process().cpu();
    let calls = paced(service.address(), rate, LASTING, come_and_go).await;
    streams.have_had((calls.len() * STREAMS) as u64).await;
    micros_each(service.process().cpu() - before, streams.events())
}

/// Processor time of nchan for each delivered message, in microseconds, including the publishing.
async fn nchan_micros(rate: usize) -> f64 {
    let nchan = Peer::nchan().await;
    let request = |_| get(SUBSCRIBE, None);
    let streams = Readers::open(nchan.address, STREAMS, NCHAN_MESSAGE, 1, request).await;
    let before = nchan.process.cpu();
    let message = |_| post_body(PUBLISH, "application/json", MESSAGE);
    let calls = paced(nchan.address, rate, LASTING, message).await;
    streams.have_had((calls.len() * STREAMS) as u64).await;
    micros_each(nchan.process.cpu() - before, streams.events())
}
