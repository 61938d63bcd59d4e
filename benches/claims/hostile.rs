//! Pings while other clients send slow heads, and while a stream does not read and users come and go.

use std::time::Duration;

use harness::instance::Instance;
use harness::redis_server::RedisServer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep};

use crate::measure::calls::{Connection, come_and_go, load, p99_ms, paced_apart, ping_one_of};
use crate::measure::report::{Figure, Row};
use crate::measure::streams::get;

const ROUNDS: usize = 3;
const SLOW_HEADS: usize = 400;
const BETWEEN_BYTES: Duration = Duration::from_millis(100);
const PINGS_PER_SECOND: usize = 500;
const LASTING: Duration = Duration::from_secs(8);

/// 100,000 connects and disconnects, as fast as they are answered. The connections are so few that the processors are
/// not the bottleneck.
const PAIRS: usize = 100_000;

pub(crate) async fn run() -> Vec<Row> {
    let (mut heads, mut crowd, mut memory) =
        (Figure::default(), Figure::default(), Figure::default());
    let ping = ping_one_of(PINGS_PER_SECOND);
    for _ in 0..ROUNDS {
        let redis = RedisServer::start().await;
        let service = Instance::on(&redis).await;
        load(service.address(), PINGS_PER_SECOND, ping).await;
        let quiet = paced_apart(service.address(), PINGS_PER_SECOND, LASTING, ping).await;
        let quiet = p99_ms(&quiet);
        let slow = slow_heads(&service).await;
        let beside = paced_apart(service.address(), PINGS_PER_SECOND, LASTING, ping).await;
        heads.push(p99_ms(&beside) / quiet);
        drop(slow);
        let before = service.process().resident_kib();
        let mut lazy = TcpStream::connect(service.address())
            .await
            .expect("a connection");
        lazy.write_all(&get("/v1/events", None))
            .await
            .expect("a write");
        let crowding = tokio::spawn(come_and_go_on_one(service.address()));
        let beside = paced_apart(service.address(), PINGS_PER_SECOND, LASTING, ping).await;
        crowd.push(p99_ms(&beside) / quiet);
        crowding.await.expect("all came and went");
        memory.push((service.process().resident_kib() - before) as f64 / 1_024.0);
        drop(lazy);
    }
    let claim = "hostile clients";
    vec![
        Row::new(
            claim,
            "p99 of pings beside 400 slow heads over the quiet one",
            heads,
        )
        .at_most(2.0),
        Row::new(
            claim,
            "p99 of pings beside 100,000 connects and disconnects over the quiet one",
            crowd,
        )
        .at_most(2.0),
        Row::new(
            claim,
            "memory they cost behind a stream that does not read, MiB",
            memory,
        )
        .at_most(40.0),
    ]
}

async fn come_and_go_on_one(address: std::net::SocketAddr) {
    let mut connection = Connection::open(address).await;
    for pair in 0..PAIRS {
        for verb in 0..2 {
            // The calls of one user are 64 numbers apart.
            let number = pair % 64 + 64 * verb;
            connection.call(&come_and_go(number)).await;
        }
    }
}

/// Clients that send a head byte by byte, and start again when they are cut off. They are independent of each other:
/// their bytes are spread over the time between two bytes of a client.
async fn slow_heads(service: &Instance) -> JoinSet<()> {
    let mut heads = JoinSet::new();
    for number in 0..SLOW_HEADS {
        let address = service.address();
        let first = Instant::now() + BETWEEN_BYTES * number as u32 / SLOW_HEADS as u32;
        heads.spawn(async move {
            let mut ticks = interval_at(first, BETWEEN_BYTES);
            loop {
                let mut head = TcpStream::connect(address).await.expect("a connection");
                let begun = head.write_all(b"GET /livez HTTP/1.1\r\nX-Slow: ").await;
                let mut writable = begun.is_ok();
                while writable {
                    ticks.tick().await;
                    writable = head.write_all(b"x").await.is_ok();
                }
            }
        });
    }
    sleep(Duration::from_secs(1)).await;
    heads
}
