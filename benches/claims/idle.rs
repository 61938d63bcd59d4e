//! The memory of an idle stream.

use std::net::SocketAddr;
use std::time::Duration;

use harness::instance::Instance;
use harness::process::Process;
use harness::redis_server::RedisServer;
use tokio::time::sleep;

use crate::measure::peers::{Peer, SUBSCRIBE};
use crate::measure::report::{Figure, Row};
use crate::measure::streams::{NCHAN_MESSAGE, OUR_EVENT, Readers, get};

const ROUNDS: usize = 3;
const STREAMS: usize = 8_000;

/// Long enough for a keep-alive on each stream.
const SETTLED: Duration = Duration::from_secs(17);

pub(crate) async fn run() -> Vec<Row> {
    let (mut ours, mut theirs) = (Figure::default(), Figure::default());
    for _ in 0..ROUNDS {
        let redis = RedisServer::start().await;
        let service = Instance::on(&redis).await;
        let (address, process) = (service.address(), service.process());
        ours.push(kib_each(process, address, "/v1/events", OUR_EVENT).await);
        let nchan = Peer::nchan().await;
        theirs.push(kib_each_of_nchan(&nchan).await);
    }
    let claim = "idle stream, 8,000 open";
    vec![
        Row::new(claim, "KiB each", ours.clone()).at_most(8.0),
        Row::new(claim, "KiB each, nchan", theirs.clone()),
        Row::new(claim, "memory over nchan's", ours.over(&theirs)),
    ]
}

async fn kib_each(
    process: &Process,
    address: SocketAddr,
    path: &str,
    needle: &'static [u8],
) -> f64 {
    sleep(Duration::from_secs(1)).await;
    let before = process.resident_kib();
    let _streams = Readers::open(address, STREAMS, needle, 1, |_| get(path, None)).await;
    sleep(SETTLED).await;
    (process.resident_kib() - before) as f64 / STREAMS as f64
}

/// The connection table of nginx exists from the start, so its memory is not counted here, in favour of nchan.
async fn kib_each_of_nchan(nchan: &Peer) -> f64 {
    kib_each(&nchan.process, nchan.address, SUBSCRIBE, NCHAN_MESSAGE).await
}
