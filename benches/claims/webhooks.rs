//! Webhooks at 2,000 transitions a second: how far a receiver that answers in 20 ms is behind, alone and beside
//! receivers that answer late or not at all.

use std::sync::Arc;
use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;
use harness::timestamp::Timestamp;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::measure::calls::{come_and_go, p99_ms, paced_apart};
use crate::measure::report::{Figure, Row};

const ROUNDS: usize = 3;
const TRANSITIONS_PER_SECOND: usize = 2_000;
const LASTING: Duration = Duration::from_secs(15);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How long a receiver takes to answer.
const USUAL: Duration = Duration::from_millis(20);

/// Nearly the time-out of a delivery.
const SLOW: Duration = Duration::from_secs(9);

/// The longest wait for the last events.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) async fn run() -> Vec<Row> {
    let (mut alone, mut beside) = (Figures::default(), Figures::default());
    for _ in 0..ROUNDS {
        measure(false, &mut alone).await;
        measure(true, &mut beside).await;
    }
    let claim = "webhooks, 2,000 transitions/s, answered in 20 ms";
    let p99 = beside.p99.over(&alone.p99);
    let mut rows = Vec::from(alone.rows(claim, ""));
    rows.extend(beside.rows(claim, ", beside a dead and a slow receiver"));
    let what = "p99 of the calls beside a dead and a slow receiver over the one without";
    rows.push(Row::new(claim, what, p99).at_most(1.5));
    rows
}

#[derive(Default)]
struct Figures {
    behind: Figure,
    lacking: Figure,
    p99: Figure,
}

impl Figures {
    fn rows(self, claim: &'static str, among: &str) -> [Row; 3] {
        [
            Row::new(claim, format!("most s behind{among}"), self.behind).at_most(2.0),
            Row::new(claim, format!("events not delivered{among}"), self.lacking).at_most(0.0),
            Row::new(claim, format!("p99 of the calls, ms{among}"), self.p99),
        ]
    }
}

async fn measure(has_others: bool, figures: &mut Figures) {
    let redis = RedisServer::start().await;
    let receiver = Receiver::start(USUAL).await;
    let slow = Receiver::start(SLOW).await;
    let mut receivers = format!("usual:{}", receiver.url);
    let mut secrets = format!("usual:{SECRET}");
    if has_others {
        // Nobody listens at the discard port.
        receivers += &format!(",slow:{},dead:http://127.0.0.1:9/", slow.url);
        secrets += &format!(",slow:{SECRET},dead:{SECRET}");
    }
    let settings = Settings::new()
        .with("REDIS_URL", &redis.url())
        .with("PRESENCE_WEBHOOKS", &receivers)
        .with("PRESENCE_WEBHOOK_SECRETS", &secrets);
    let service = Instance::start(&settings).await;
    sleep(Duration::from_secs(1)).await;
    let address = service.address();
    let calls = paced_apart(address, TRANSITIONS_PER_SECOND, LASTING, come_and_go).await;
    let give_up = Instant::now() + TIMEOUT;
    while receiver.events() < calls.len() && Instant::now() < give_up {
        sleep(Duration::from_millis(50)).await;
    }
    figures.behind.push(receiver.most_behind_ms() as f64 / 1e3);
    figures
        .lacking
        .push(calls.len().saturating_sub(receiver.events()) as f64);
    figures.p99.push(p99_ms(&calls));
}

/// A receiver that takes some time for each webhook.
struct Receiver {
    url: String,
    /// How far behind each event came, in milliseconds.
    behind: Arc<Mutex<Vec<i64>>>,
}

impl Receiver {
    async fn start(takes: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let behind = Arc::default();
        let shared = Arc::clone(&behind);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, takes, Arc::clone(&shared)));
            }
        });
        Self { url, behind }
    }

    fn events(&self) -> usize {
        self.behind.lock().len()
    }

    fn most_behind_ms(&self) -> i64 {
        self.behind.lock().iter().copied().max().unwrap_or(i64::MAX)
    }
}

async fn serve(stream: TcpStream, takes: Duration, behind: Arc<Mutex<Vec<i64>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(body) = body(&mut stream).await {
        let now = Timestamp::now();
        let times = body.split("\"timestamp\":\"").skip(1);
        let times = times.filter_map(|rest| Timestamp::parse(rest.split('"').next()?));
        // The first time is the one of the webhook.
        let late: Vec<i64> = times.skip(1).map(|time| now.millis_after(time)).collect();
        sleep(takes).await;
        behind.lock().extend(late);
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        if stream.get_mut().write_all(answer).await.is_err() {
            return;
        }
    }
}

/// The body of the next request; `None` at the end of the connection.
async fn body(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    String::from_utf8(body).ok()
}
