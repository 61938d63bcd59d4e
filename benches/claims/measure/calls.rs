//! Calls over raw connections. They use little processor time, which is left for the servers.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::report::quantile_ms;

/// The connections that make the load, and the number of pipelined calls on each where latency is not measured.
const CONNECTIONS: usize = 64;
const AHEAD: usize = 32;

/// A kept connection.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// One call that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) asked: Instant,
    pub(crate) took: Duration,
}

/// The 99th percentile of the latencies, in milliseconds.
pub(crate) fn p99_ms(calls: &[Call]) -> f64 {
    let mut times: Vec<Duration> = calls.iter().map(|call| call.took).collect();
    quantile_ms(&mut times, 0.99)
}

/// A request without a body.
pub(crate) fn post(path: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

/// The pings of `users` users in turn.
pub(crate) fn ping_one_of(users: usize) -> impl Fn(usize) -> Vec<u8> + Copy + Send + Sync {
    move |number| post(&format!("/v1/users/pinging-{}/ping", number % users))
}

/// A request with a body.
pub(crate) fn post_body(path: &str, media_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a TCP connection");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, requests: &[u8]) {
        self.stream.write_all(requests).await.expect("a write");
    }

    /// Reads one answer. Panics if it is not a success.
    pub(crate) async fn answer(&mut self) {
        loop {
            if let Some(length) = whole_answer(&self.unread) {
                self.unread.drain(..length);
                return;
            }
            let count = self.stream.read_buf(&mut self.unread).await;
            assert!(count.is_ok_and(|count| count > 0), "closed by the server");
        }
    }

    /// Sends `request` and returns the latency of the answer.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Duration {
        let asked = Instant::now();
        self.send(request).await;
        self.answer().await;
        asked.elapsed()
    }
}

/// The length of the answer at the beginning of `bytes`; `None` while it is incomplete.
fn whole_answer(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let status = text.get(9..12).unwrap_or_default();
    assert!(status.starts_with('2'), "{text}");
    let body = text.split("content-length:").nth(1);
    let body = body.and_then(|rest| rest.split("\r\n").next());
    let body: usize = body.map_or(0, |length| length.trim().parse().expect("a length"));
    (bytes.len() >= head + body).then_some(head + body)
}

/// Sends the requests `0..count` as fast as they are answered.
pub(crate) async fn load(
    address: SocketAddr,
    count: usize,
    request: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
) {
    let request = Arc::new(request);
    let mut loading = JoinSet::new();
    for first in 0..CONNECTIONS {
        let request = Arc::clone(&request);
        loading.spawn(async move {
            let mut connection = Connection::open(address).await;
            let numbers: Vec<usize> = (first..count).step_by(CONNECTIONS).collect();
            for ahead in numbers.chunks(AHEAD) {
                let requests: Vec<u8> = ahead.iter().flat_map(|number| request(*number)).collect();
                connection.send(&requests).await;
                for _ in ahead {
                    connection.answer().await;
                }
            }
        });
    }
    loading.join_all().await;
}

/// Sends `per_second` requests for the time `lasting`, each at its due time, and returns the calls.
pub(crate) async fn paced(
    address: SocketAddr,
    per_second: usize,
    lasting: Duration,
    request: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
) -> Vec<Call> {
    let request = Arc::new(request);
    let connections = CONNECTIONS.min(per_second);
    let period = Duration::from_secs_f64(connections as f64 / per_second as f64);
    let mut callers = JoinSet::new();
    for first in 0..connections {
        let request = Arc::clone(&request);
        let begin = Instant::now() + period.mul_f64(first as f64 / connections as f64);
        callers.spawn(async move {
            let mut connection = Connection::open(address).await;
            let mut ticks = interval_at(begin, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let count = (lasting.as_secs_f64() / period.as_secs_f64()) as usize;
            let mut calls = Vec::with_capacity(count);
            for call in 0..count {
                ticks.tick().await;
                let request = request(first + call * connections);
                let asked = Instant::now();
                let took = connection.call(&request).await;
                calls.push(Call { asked, took });
            }
            calls
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}

/// Like [`paced`], in a runtime of its own, so that other clients of the claim do not delay it.
pub(crate) async fn paced_apart(
    address: SocketAddr,
    per_second: usize,
    lasting: Duration,
    request: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
) -> Vec<Call> {
    let calling = apart(move || paced(address, per_second, lasting, request));
    calling.await.expect("all were answered")
}

/// Runs calls on a thread and a runtime of their own, so that other clients of the claim do not delay them.
pub(crate) fn apart<C>(calling: impl FnOnce() -> C + Send + 'static) -> JoinHandle<C::Output>
where
    C: Future<Output: Send + 'static>,
{
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(calling())
    })
}

/// Connects and disconnects in turn: request `2 n` connects the user that request `2 n + 1` disconnects. The requests
/// of one connection are 64 apart, so both are on neighbouring connections.
pub(crate) fn come_and_go(number: usize) -> Vec<u8> {
    let verb = ["connect", "disconnect"][number / CONNECTIONS % 2];
    let user = number % CONNECTIONS;
    post(&format!("/v1/users/passer-by-{user}/{verb}"))
}

/// Users that ping once in each period `every`, until they stop or this value ends.
pub(crate) struct Population {
    pingers: JoinSet<()>,
    active: watch::Sender<ActiveUsers>,
    seen: Arc<Mutex<Seen>>,
}

/// The users that ping.
#[derive(Clone, Copy, PartialEq)]
enum ActiveUsers {
    All,
    Immortals,
    None,
}

/// What the connections of a population recorded.
#[derive(Default)]
struct Seen {
    /// The last ping of each user that stopped.
    last_pings: Vec<(usize, Instant)>,
    /// The longest delay of a ping since the last call of [`Population::behind`].
    behind: Duration,
    /// Pings that were answered.
    pings: usize,
}

impl Population {
    /// The time between two checks of a connection for due pings. The checks of all connections are spread over it.
    const TICK: Duration = Duration::from_millis(100);

    /// The connections of the population, and the pipelined pings on each. They are few, because Redis runs them one
    /// after the other and the time of each is recorded when it is sent.
    const CONNECTIONS: usize = 256;
    const AHEAD: usize = 4;

    /// The longest accepted delay of a ping. It is far less than the TTL minus the ping interval.
    const LAG: Duration = Duration::from_secs(10);

    /// Keeps the users `0..count` online over `addresses`. The users with `is_mortal` will stop pinging.
    ///
    /// The users connect over `rounds` periods, because a connect costs several pings.
    pub(crate) fn start(
        addresses: &[SocketAddr],
        count: usize,
        (rounds, every): (usize, Duration),
        is_mortal: impl Fn(usize) -> bool + Copy + Send + 'static,
    ) -> Self {
        let (active, pinging) = watch::channel(ActiveUsers::All);
        let seen = Arc::<Mutex<Seen>>::default();
        let begin = Instant::now();
        let mut pingers = JoinSet::new();
        for first in 0..Self::CONNECTIONS {
            let address = addresses[first * addresses.len() / Self::CONNECTIONS];
            let (pinging, seen) = (pinging.clone(), Arc::clone(&seen));
            let begin = begin + Self::TICK * first as u32 / Self::CONNECTIONS as u32;
            pingers.spawn(async move {
                let users: Vec<usize> = (first..count).step_by(Self::CONNECTIONS).collect();
                let connection = Connection::open(address).await;
                let pace = (begin, rounds, every);
                keep_online(connection, &users, pace, is_mortal, pinging, &seen).await;
            });
        }
        Self {
            pingers,
            active,
            seen,
        }
    }

    /// Stops the pings of the mortal users, and returns the last ping of each.
    pub(crate) async fn fall_silent(&self) -> Vec<(usize, Instant)> {
        self.active.send_replace(ActiveUsers::Immortals);
        // A connection stops at its next check, which may be late by the longest accepted delay.
        sleep(Self::LAG + Self::TICK).await;
        self.seen.lock().last_pings.clone()
    }

    /// The longest delay of a ping since the last call.
    pub(crate) fn behind(&self) -> Duration {
        mem::take(&mut self.seen.lock().behind)
    }

    /// The number of answered pings.
    pub(crate) fn pings(&self) -> usize {
        self.seen.lock().pings
    }

    /// Stops all pings. Panics if a ping was late or not answered.
    pub(crate) async fn end(self) {
        self.active.send_replace(ActiveUsers::None);
        let ended = timeout(Self::LAG, self.pingers.join_all()).await;
        ended.expect("all pings are answered");
    }
}

async fn keep_online(
    mut connection: Connection,
    users: &[usize],
    (begin, arriving, every): (Instant, usize, Duration),
    is_mortal: impl Fn(usize) -> bool,
    pinging: watch::Receiver<ActiveUsers>,
    seen: &Mutex<Seen>,
) {
    let mut last = vec![None; users.len()];
    let mut ticks = interval_at(begin, Population::TICK);
    let (mut done, mut told) = (0_usize, false);
    loop {
        ticks.tick().await;
        let active = *pinging.borrow();
        if active == ActiveUsers::None {
            return;
        }
        if active == ActiveUsers::Immortals && !told {
            told = true;
            let both = users.iter().zip(&last);
            let known = both.filter_map(|(user, last)| last.map(|last| (*user, last)));
            seen.lock().last_pings.extend(known);
        }
        let rounds = begin.elapsed().as_secs_f64() / every.as_secs_f64();
        let due = (rounds * users.len() as f64) as usize;
        let here = |turn: &usize| turn % users.len() % arriving <= turn / users.len();
        let turns: Vec<usize> = (done..due).filter(here).collect();
        done = due;
        for ahead in turns.chunks(Population::AHEAD) {
            let first_due = begin + every.mul_f64(ahead[0] as f64 / users.len() as f64);
            let behind = first_due.elapsed();
            assert!(behind < Population::LAG, "a ping is {behind:?} behind");
            let (mut requests, mut sent) = (Vec::new(), 0);
            for turn in ahead {
                let index = turn % users.len();
                let mortal = is_mortal(users[index]);
                if mortal && active == ActiveUsers::Immortals {
                    continue;
                }
                if mortal {
                    last[index] = Some(Instant::now());
                }
                requests.extend(post(&format!("/v1/users/user-{}/ping", users[index])));
                sent += 1;
            }
            connection.send(&requests).await;
            for _ in 0..sent {
                connection.answer().await;
            }
            let mut seen = seen.lock();
            seen.behind = seen.behind.max(behind);
            seen.pings += sent;
        }
    }
}
