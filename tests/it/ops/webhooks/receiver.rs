//! A receiver of webhooks that records what it gets, and that can fail in several ways.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::instance::Settings;
use harness::timestamp::Timestamp;
use harness::wait::eventually;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

/// The secret of the receiver in the tests.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How the receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// With this status.
    Answer(u16),
    /// With 503 and this `Retry-After`, in seconds.
    RetryAfter(u64),
    /// With a redirect to itself.
    Redirect,
    /// With 200 and a body of 10 MB.
    Flood,
    /// With 200 and a body of which one byte arrives each second.
    Drip,
    /// With 200 after this time, in milliseconds.
    Late(u64),
}

/// A webhook as it arrived.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Received {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    #[serde(skip)]
    pub(crate) at: Instant,
    #[serde(skip)]
    pub(crate) arrived: Timestamp,
    /// How the receiver answered.
    #[serde(skip)]
    pub(crate) conduct: Conduct,
}

impl Received {
    pub(crate) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// The events, as `name user` or `name reason`.
    pub(crate) fn events(&self) -> Vec<String> {
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(body["type"], "presence.events");
        let events = body["data"]["events"].as_array().expect("a list");
        let shown = events.iter().map(|event| {
            let subject = event["data"]["userId"].as_str();
            let subject = subject.or(event["data"]["reason"].as_str());
            format!(
                "{} {}",
                event["event"].as_str().expect("a name"),
                subject.expect("a subject")
            )
        });
        shown.collect()
    }
}

pub(crate) struct Receiver {
    url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    conduct: Conduct,
    received: Vec<Received>,
}

impl Receiver {
    pub(crate) async fn start(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Vec::new();
        let state = Arc::new(Mutex::new(State { conduct, received }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        let url = format!("http://{address}/hook?token=not-for-the-log");
        Self { url, state }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// `settings` with this receiver, under the name `crm`.
    pub(crate) fn registered_in(&self, settings: Settings) -> Settings {
        settings
            .with("PRESENCE_WEBHOOKS", &format!("crm:{}", self.url))
            .with("PRESENCE_WEBHOOK_SECRETS", &format!("crm:{SECRET}"))
    }

    /// From now on the receiver answers like this.
    pub(crate) fn now(&self, conduct: Conduct) {
        self.state.lock().expect("no panic").conduct = conduct;
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().expect("no panic").received.clone()
    }

    /// Waits for `count` attempts, and returns all so far.
    pub(crate) async fn attempts(&self, count: usize) -> Vec<Received> {
        let what = format!("{count} webhooks arrive");
        eventually(&what, async || {
            Some(self.received()).filter(|all| all.len() >= count)
        })
        .await
    }

    /// Waits until the accepted webhooks have `count` events, and returns the events in order.
    pub(crate) async fn accepted(&self, count: usize) -> Vec<String> {
        let what = format!("{count} events are delivered");
        eventually(&what, async || {
            let received = self.received();
            let accepted = received
                .iter()
                .filter(|each| each.conduct == Conduct::Answer(204));
            let events: Vec<_> = accepted.flat_map(Received::events).collect();
            Some(events).filter(|events| events.len() >= count)
        })
        .await
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some((headers, body)) = request(&mut stream).await {
        let conduct = {
            let mut state = state.lock().expect("no panic");
            let conduct = state.conduct;
            let at = Instant::now();
            state.received.push(Received {
                headers,
                body,
                at,
                arrived: Timestamp::now(),
                conduct,
            });
            conduct
        };
        if answer(&mut stream, conduct).await.is_err() {
            return;
        }
    }
}

async fn request(stream: &mut BufReader<TcpStream>) -> Option<(BTreeMap<String, String>, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    assert_eq!(
        lines.next(),
        Some("POST /hook?token=not-for-the-log HTTP/1.1")
    );
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers["content-length"].parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some((headers, String::from_utf8(body).ok()?))
}

async fn answer(stream: &mut BufReader<TcpStream>, conduct: Conduct) -> std::io::Result<()> {
    let head = |status: u16, more: &str, length: usize| {
        format!("HTTP/1.1 {status} \r\n{more}Content-Length: {length}\r\n\r\n")
    };
    match conduct {
        Conduct::Answer(status) => stream.write_all(head(status, "", 0).as_bytes()).await,
        Conduct::RetryAfter(seconds) => {
            let more = format!("Retry-After: {seconds}\r\n");
            stream.write_all(head(503, &more, 0).as_bytes()).await
        }
        Conduct::Redirect => {
            let more = "Location: /hook?token=not-for-the-log\r\n";
            stream.write_all(head(307, more, 0).as_bytes()).await
        }
        Conduct::Flood => {
            stream
                .write_all(head(200, "", 10_000_000).as_bytes())
                .await?;
            stream.write_all(&vec![b'x'; 10_000_000]).await
        }
        Conduct::Drip => {
            stream.write_all(head(200, "", 60).as_bytes()).await?;
            for _ in 0..60 {
                stream.write_all(b"x").await?;
                sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        }
        Conduct::Late(ms) => {
            sleep(Duration::from_millis(ms)).await;
            stream.write_all(head(200, "", 0).as_bytes()).await
        }
    }
}
