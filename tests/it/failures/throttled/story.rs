//! What happened in a run.

use std::time::Duration;

use fastrand::Rng;
use harness::client::Client;
use harness::timestamp::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::ops::webhooks::receiver::Received;

/// Longer than a sweep takes, which may wait for the lease of an instance that stands still.
const LONGEST_SWEEP: Duration = Duration::from_secs(25);

/// Everything that clients and the receiver saw.
#[derive(Default)]
pub(super) struct Story {
    pub(super) calls: Vec<Call>,
    pub(super) sweeps: Vec<Sweep>,
    /// The messages of the service, in order.
    pub(super) events: Vec<Value>,
    pub(super) received: Vec<Received>,
    pub(super) closings: usize,
    pub(super) kills: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Connect,
    Ping,
    Disconnect,
}

/// A call and its answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) user: String,
    pub(super) verb: Verb,
    pub(super) asked: Timestamp,
    pub(super) answered: Timestamp,
    pub(super) status: u16,
    pub(super) answer: Value,
}

/// A call of the cron.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) asked: Timestamp,
    pub(super) answered: Timestamp,
    pub(super) status: u16,
    pub(super) answer: Value,
}

impl Verb {
    pub(super) fn any(rng: &mut Rng) -> Self {
        match rng.u8(..10) {
            0..3 => Self::Connect,
            3..8 => Self::Ping,
            _ => Self::Disconnect,
        }
    }

    pub(super) async fn call(self, client: &Client, user: &str) -> Call {
        let name = match self {
            Self::Connect => "connect",
            Self::Ping => "ping",
            Self::Disconnect => "disconnect",
        };
        let asked = Timestamp::now();
        let path = format!("/v1/users/{user}/{name}");
        let answer = client.post(&path, &json!({})).await;
        Call {
            user: user.to_owned(),
            verb: self,
            asked,
            answered: Timestamp::now(),
            status: answer.status.as_u16(),
            answer: serde_json::from_str(&answer.body).unwrap_or_default(),
        }
    }
}

impl Sweep {
    pub(super) async fn by(client: &Client) -> Self {
        let asked = Timestamp::now();
        let request = client.request(Method::POST, "/v1/sweep").json(&json!({}));
        let response = request.timeout(LONGEST_SWEEP).send().await;
        let response = response.expect("an answer");
        let status = response.status().as_u16();
        let body = response.text().await.unwrap_or_default();
        Self {
            asked,
            answered: Timestamp::now(),
            status,
            answer: serde_json::from_str(&body).unwrap_or_default(),
        }
    }
}

impl Call {
    /// The deadline that the answer states, for a connect or a ping that succeeded.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        Timestamp::parse(self.answer["expiresAt"].as_str()?)
    }
}

impl Story {
    /// One line for each kind of thing that happened.
    pub(super) fn report(&self) -> String {
        let named = |name: &str, reason: &str| {
            let events = self.events.iter().filter(|each| {
                each["event"] == name && (reason.is_empty() || each["data"]["reason"] == reason)
            });
            events.count()
        };
        let mut took: Vec<i64> = self.calls.iter().map(Call::took_ms).collect();
        took.sort_unstable();
        let at = |part: f64| took.get((took.len() as f64 * part) as usize).copied();
        let swept = self.sweeps.iter();
        let swept = swept.map(|each| each.answered.millis_after(each.asked));
        let late = self.calls.iter().filter(|each| each.status == 409).count();
        [
            format!(
                "calls: {} ({late} late pings), p50 {:?} ms, p99 {:?} ms",
                self.calls.len(),
                at(0.5),
                at(0.99)
            ),
            format!("sweeps: {}, at most {:?} ms", self.sweeps.len(), swept.max()),
            format!(
                "events: {} online, {} expired, {} disconnected; webhooks: {}",
                named("user.online", ""),
                named("user.offline", "expired"),
                named("user.offline", "disconnected"),
                self.received.len()
            ),
            format!(
                "connections closed {} times, instances killed {} times, all while they stood still",
                self.closings, self.kills
            ),
        ]
        .join("\n")
    }
}

impl Call {
    fn took_ms(&self) -> i64 {
        self.answered.millis_after(self.asked)
    }
}
