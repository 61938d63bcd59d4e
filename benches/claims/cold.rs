//! One of two instances is killed and started again during traffic. Its streams come back to an instance with an empty
//! memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::redis_server::{RedisServer, free_port};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::measure::calls::{
    Call, apart, come_and_go, load, p99_ms, paced_apart, ping_one_of, post,
};
use crate::measure::report::{Figure, Row, quantile_ms};
use crate::measure::streams::{get, take_lines};

const ROUNDS: usize = 3;
const STREAMS: usize = 3_000;
const PINGS_PER_SECOND: usize = 500;

/// The number of users of a stream, among the users that come and go.
const USERS_EACH: usize = 2;
const PASSERS_BY: usize = 64;

/// The downtime of the instance, and the wait of a reader before it reconnects.
const AWAY: Duration = Duration::from_secs(8);
const RETRY: Duration = Duration::from_secs(3);

/// How long pings are measured before the restart, and while the streams come back.
const QUIET: Duration = Duration::from_secs(6);
const STORMY: Duration = Duration::from_secs(12);

/// What a reader reads at once, and its pause when it has read everything. Clients on the same processors must cost
/// little: to read each event alone would take as much of them as an instance takes to write it.
const READ_BYTES: usize = 4_096;
const READ_PAUSE: Duration = Duration::from_millis(100);

/// The deadline of anything that must happen.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The time between two new connections, each for a ping or a `/livez`.
const NEW_CONNECTION_EVERY: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Found {
    live: Figure,
    slower: Figure,
    slower_elsewhere: Figure,
    busy: Figure,
    busy_over_elsewhere: Figure,
    refused: Figure,
    log_lines: Figure,
    worst_ping: Figure,
    p99_ping: Figure,
    worst_livez: Figure,
    p99_livez: Figure,
}

pub(crate) async fn run() -> Vec<Row> {
    let mut rows = at(
        200,
        "3,000 streams come back to a cold instance, 200 events/s",
    )
    .await;
    rows.extend(
        at(
            1_000,
            "3,000 streams come back to a cold instance, 1,000 events/s",
        )
        .await,
    );
    rows
}

async fn at(events_per_second: usize, claim: &'static str) -> Vec<Row> {
    let mut found = Found::default();
    for _ in 0..ROUNDS {
        round(events_per_second, &mut found).await;
    }
    let row = |figure: &str, found| Row::new(claim, figure, found);
    vec![
        row("s from the start until all are live", found.live).at_most(10.0),
        row(
            "p99 of its pings within 12 s of the start over the quiet one",
            found.slower,
        )
        .at_most(2.0),
        row(
            "p99 of its pings until all streams are live, ms",
            found.busy,
        ),
        row(
            "p99 of its pings until all streams are live over that of the other instance meanwhile",
            found.busy_over_elsewhere,
        ),
        row(
            "p99 of pings of the other instance over its quiet one",
            found.slower_elsewhere,
        )
        .at_most(2.0),
        row("answers but 200 to a stream or a call", found.refused).at_most(0.0),
        row("lines that it logged", found.log_lines).at_most(10.0),
        row("worst ping of a new connection, ms", found.worst_ping).at_most(500.0),
        row("p99 of pings of new connections, ms", found.p99_ping),
        row("worst /livez of a new connection, ms", found.worst_livez).at_most(500.0),
        row("p99 of /livez of new connections, ms", found.p99_livez),
    ]
}

/// A cold start. The quiet pings are measured before the instance is killed, because it answers none while it is down.
async fn round(events_per_second: usize, found: &mut Found) {
    let redis = RedisServer::start().await;
    let elsewhere = Instance::on(&redis).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    let settings = settings.with("PRESENCE_LISTEN", &address.to_string());
    let cold = Instance::start(&settings).await;
    let ping = ping_one_of(PINGS_PER_SECOND);
    load(address, PINGS_PER_SECOND, ping).await;
    let readers = Readers::open(address).await;
    let lasting = QUIET + AWAY + STORMY + Duration::from_secs(4);
    let traffic = tokio::spawn(paced_apart(
        elsewhere.address(),
        events_per_second,
        lasting,
        come_and_go,
    ));
    sleep(Duration::from_secs(1)).await;
    let (here, there) = (pings(address, QUIET), pings(elsewhere.address(), QUIET));
    let quiet = p99_ms(&here.await.expect("an end"));
    let quiet_elsewhere = p99_ms(&there.await.expect("an end"));
    drop(cold);
    sleep(AWAY).await;
    readers.forget();
    let there = pings(elsewhere.address(), STORMY);
    let began = Instant::now();
    let cold = Instance::start(&settings).await;
    let here = pings(address, STORMY);
    let new_connections = NewConnections::start(address);
    let live = readers.are_live(began).await;
    let here = here.await.expect("an end");
    let there = there.await.expect("an end");
    let (stormy, stormy_elsewhere) = (p99_ms(&here), p99_ms(&there));
    // The pings of the other instance show the cost of the clients on the same processors.
    let (busy, busy_elsewhere) = (
        p99_before(began + live, here),
        p99_before(began + live, there),
    );
    let (mut pinged, mut lived) = new_connections.end().await;
    found.live.push(live.as_secs_f64());
    found.slower.push(stormy / quiet);
    found
        .slower_elsewhere
        .push(stormy_elsewhere / quiet_elsewhere);
    found.busy.push(busy);
    found.busy_over_elsewhere.push(busy / busy_elsewhere);
    found.refused.push(readers.refused() as f64);
    found.log_lines.push(cold.log().lines().count() as f64);
    found.worst_ping.push(quantile_ms(&mut pinged, 1.0));
    found.p99_ping.push(quantile_ms(&mut pinged, 0.99));
    found.worst_livez.push(quantile_ms(&mut lived, 1.0));
    found.p99_livez.push(quantile_ms(&mut lived, 0.99));
    drop(cold);
    drop(traffic.await);
}

/// The p99 of the calls that ended before `end`.
fn p99_before(end: Instant, mut calls: Vec<Call>) -> f64 {
    calls.retain(|call| call.asked < end);
    p99_ms(&calls)
}

fn pings(address: SocketAddr, lasting: Duration) -> JoinHandle<Vec<Call>> {
    let ping = ping_one_of(PINGS_PER_SECOND);
    tokio::spawn(paced_apart(address, PINGS_PER_SECOND, lasting, ping))
}

/// Readers that reconnect with their cursors, each with a few of the users that come and go.
struct Readers {
    _reading: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The number of readers that have caught up since the last reset of this value.
    live: AtomicUsize,
    /// Whether each reader has caught up.
    each: Vec<AtomicBool>,
    refused: AtomicUsize,
}

impl Readers {
    async fn open(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            each: (0..STREAMS).map(|_| AtomicBool::new(false)).collect(),
            ..Shared::default()
        });
        let mut reading = JoinSet::new();
        for number in 0..STREAMS {
            let shared = Arc::clone(&shared);
            reading.spawn(async move {
                let mut cursor = Vec::new();
                loop {
                    read(address, number, &mut cursor, &shared).await;
                    sleep(RETRY).await;
                }
            });
        }
        let readers = Self {
            _reading: reading,
            shared,
        };
        readers.are_live(Instant::now()).await;
        readers
    }

    fn forget(&self) {
        for each in &self.shared.each {
            each.store(false, Ordering::Relaxed);
        }
        self.shared.live.store(0, Ordering::Relaxed);
    }

    /// Waits until every reader has caught up, and returns the time since `began`.
    async fn are_live(&self, began: Instant) -> Duration {
        let live = async {
            while self.shared.live.load(Ordering::Relaxed) < STREAMS {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let live = timeout(TIMEOUT, live).await;
        let count = self.shared.live.load(Ordering::Relaxed);
        assert!(live.is_ok(), "{count} of {STREAMS} are live");
        began.elapsed()
    }

    fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

/// Reads one stream until its end.
async fn read(address: SocketAddr, number: usize, cursor: &mut Vec<u8>, shared: &Shared) {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return;
    };
    let users =
        (0..USERS_EACH).map(|user| format!("passer-by-{}", (number + user * 7) % PASSERS_BY));
    let path = format!("/v1/events?userIds={}", users.collect::<Vec<_>>().join(","));
    let known = str::from_utf8(cursor).expect("a cursor in UTF-8");
    let known = Some(known).filter(|cursor| !cursor.is_empty());
    if stream.write_all(&get(&path, known)).await.is_err() {
        return;
    }
    let mut text = Vec::with_capacity(READ_BYTES);
    while let Ok(length @ 1..) = stream.read_buf(&mut text).await {
        take_lines(&mut text, |line| shared.take(line, number, cursor));
        if length < READ_BYTES / 2 {
            sleep(READ_PAUSE).await;
        }
    }
}

impl Shared {
    /// Takes one line of a stream.
    fn take(&self, line: &[u8], number: usize, cursor: &mut Vec<u8>) {
        if let Some(id) = line.strip_prefix(b"id: ") {
            cursor.clear();
            cursor.extend_from_slice(id);
        } else if line == b"event: presence.ready" {
            if !self.each[number].swap(true, Ordering::Relaxed) {
                self.live.fetch_add(1, Ordering::Relaxed);
            }
        } else if line.starts_with(b"HTTP/1.1 ") && !line.starts_with(b"HTTP/1.1 200")
            || line == b"event: presence.end"
            || line == b"event: presence.reset"
        {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// New connections for one call each, with the time from before the connect to the answer.
struct NewConnections {
    calling: JoinHandle<(Vec<Duration>, Vec<Duration>)>,
    ends: Arc<AtomicBool>,
}

impl NewConnections {
    fn start(address: SocketAddr) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let calling = apart(move || calling(address, told));
        Self { calling, ends }
    }

    /// The latencies of the pings and of `/livez`.
    async fn end(self) -> (Vec<Duration>, Vec<Duration>) {
        self.ends.store(true, Ordering::Relaxed);
        self.calling.await.expect("all were answered")
    }
}

async fn calling(address: SocketAddr, ends: Arc<AtomicBool>) -> (Vec<Duration>, Vec<Duration>) {
    let times = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let mut calls = JoinSet::new();
    while !ends.load(Ordering::Relaxed) {
        let pings = Arc::clone(&times);
        calls.spawn(async move {
            let took = call(address, &post("/v1/users/new/ping")).await;
            pings.lock().0.push(took);
        });
        let probes = Arc::clone(&times);
        calls.spawn(async move {
            let took = call(address, &get("/livez", None)).await;
            probes.lock().1.push(took);
        });
        sleep(NEW_CONNECTION_EVERY).await;
    }
    let ended = timeout(TIMEOUT, calls.join_all()).await;
    ended.expect("all calls are answered");
    std::mem::take(&mut *times.lock())
}

/// The latency of a call on a new connection.
async fn call(address: SocketAddr, request: &[u8]) -> Duration {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request).await.expect("a write");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    began.elapsed()
}
