//! A simulated user.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::{Client, Failure};

/// The names of users.
const NAMES: [&str; 20] = [
    "ada", "bela", "chen", "dina", "emil", "femi", "gita", "hugo", "ines", "jun", "kofi", "lena",
    "milo", "nora", "omar", "pia", "quin", "rosa", "sven", "tara",
];

/// The time between two pings. The demo sets it as the ping interval of the service.
const PING_INTERVAL: Duration = Duration::from_secs(4);

/// The number of documents.
const DOCUMENTS: usize = 12;

/// How a user leaves.
enum Leaving {
    /// Signs out.
    Disconnect,
    /// Reloads the page: leaves with a grace period, and is back before its end.
    Reload,
    /// Loses the network: sends nothing more.
    Silence,
}

/// A user with one connection.
pub(crate) struct User {
    id: String,
    client: Client,
    /// The group of the document that the user reads. Each `connect` and `ping` states it.
    document: String,
}

/// The id of the user with this number.
pub(crate) fn id(number: usize) -> String {
    let name = NAMES[number % NAMES.len()];
    format!("{name}-{}", number / NAMES.len() + 1)
}

impl User {
    pub(crate) fn new(number: usize, client: Client) -> Self {
        Self {
            id: id(number),
            client,
            document: any_document(),
        }
    }

    /// Comes and goes until a call fails. Returns why it failed.
    pub(crate) async fn live(mut self) -> Failure {
        loop {
            if let Err(failure) = self.visit().await {
                return failure;
            }
        }
    }

    /// Is offline for a while, then online, then leaves.
    async fn visit(&mut self) -> Result<(), Failure> {
        sleep(seconds(0, 45)).await;
        self.document = any_document();
        self.act("connect", &self.connection(false)).await?;
        self.state_activity().await?;
        loop {
            for _ in 0..fastrand::u32(2..8) {
                sleep(PING_INTERVAL.mul_f64(0.9 + 0.1 * fastrand::f64())).await;
                // One user in six looks at another window now.
                let is_away = fastrand::u8(..6) == 0;
                self.act("ping", &self.connection(is_away)).await?;
            }
            match leaving() {
                None => self.open_document().await?,
                Some(Leaving::Disconnect) => return self.act("disconnect", &connection_id()).await,
                Some(Leaving::Reload) => self.reload().await?,
                // The user stays away until the service has noticed.
                Some(Leaving::Silence) => {
                    sleep(PING_INTERVAL * 3).await;
                    return Ok(());
                }
            }
        }
    }

    async fn reload(&self) -> Result<(), Failure> {
        let mut body = connection_id();
        body["graceMs"] = json!(3_000);
        self.act("disconnect", &body).await?;
        sleep(seconds(1, 2)).await;
        self.act("connect", &self.connection(false)).await
    }

    /// Moves to another document: the next ping states its group instead of the group of the former document.
    async fn open_document(&mut self) -> Result<(), Failure> {
        self.document = any_document();
        self.act("ping", &self.connection(false)).await?;
        self.state_activity().await
    }

    /// Says in the status what the user does with the document.
    async fn state_activity(&self) -> Result<(), Failure> {
        let status = ["reading", "editing"][fastrand::usize(..2)];
        let body = json!({"status": status, "ttlMs": 60_000});
        let path = format!("/v1/users/{}/status", self.id);
        self.client.call(Method::PUT, &path, &body).await
    }

    /// What each `connect` and `ping` states.
    fn connection(&self, is_away: bool) -> Value {
        let mut body = connection_id();
        body["away"] = json!(is_away);
        body["groups"] = json!([self.document]);
        body
    }

    async fn act(&self, verb: &str, body: &Value) -> Result<(), Failure> {
        let path = format!("/v1/users/{}/{verb}", self.id);
        self.client.call(Method::POST, &path, body).await
    }
}

fn connection_id() -> Value {
    json!({"connectionId": "tab-1"})
}

/// The group of a document, at random.
fn any_document() -> String {
    format!("doc-{}", fastrand::usize(1..=DOCUMENTS))
}

/// How a user leaves now; `None` if it stays.
fn leaving() -> Option<Leaving> {
    match fastrand::u8(..20) {
        0..5 => Some(Leaving::Disconnect),
        5..8 => Some(Leaving::Reload),
        8..12 => Some(Leaving::Silence),
        _ => None,
    }
}

/// A random time between `least` and `most` seconds.
fn seconds(least: u64, most: u64) -> Duration {
    Duration::from_millis(fastrand::u64(least * 1_000..=most * 1_000))
}
