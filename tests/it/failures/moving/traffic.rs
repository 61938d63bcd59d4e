//! Callers that go to another instance if one does not answer, and that check every answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::client::{Answer, Client, try_send};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// The time between two pings of a user. The TTL is many times as long.
const PING: Duration = Duration::from_millis(500);

/// The time between two lookups, and between the calls of users that come and go.
const PACE: Duration = Duration::from_millis(100);

/// For how long a caller repeats a call. This is longer than each fault of a store.
const PATIENCE: Duration = Duration::from_secs(4);

/// A refused ping follows a closed connection.
const CLOSED: u16 = 409;

pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Callers {
    clients: Vec<Client>,
    stop: Arc<AtomicBool>,
}

impl Traffic {
    /// Users that ping, users that come and go, and lookups of the users that ping.
    pub(super) fn start(clients: &[Client], steady: &[String], churning: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let callers = Callers {
            clients: clients.to_vec(),
            stop: Arc::clone(&stop),
        };
        let mut tasks = JoinSet::new();
        for (number, user) in steady.iter().cloned().enumerate() {
            tasks.spawn(callers.clone().ping(number, user));
        }
        for (number, user) in churning.iter().cloned().enumerate() {
            tasks.spawn(callers.clone().come_and_go(number, user));
        }
        for number in 0..clients.len() {
            tasks.spawn(callers.clone().look_up(number, steady.to_vec()));
        }
        Self { stop, tasks }
    }

    /// Waits for the last call of each caller. Panics if an answer was wrong.
    pub(super) async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("every answer was right");
        }
    }
}

impl Callers {
    /// Calls one instance after another, beginning with `first`, until one answers. Returns the answer and whether it
    /// is the first call.
    async fn call(&self, first: usize, of: impl Fn(&Client) -> RequestBuilder) -> (Answer, bool) {
        let give_up = Instant::now() + PATIENCE;
        let mut attempt = 0;
        while Instant::now() < give_up {
            let client = &self.clients[(first + attempt) % self.clients.len()];
            match try_send(of(client)).await {
                Ok(answer) if answer.status == 200 || answer.status == CLOSED => {
                    return (answer, attempt == 0);
                }
                _ => sleep(PACE / 5).await,
            }
            attempt += 1;
        }
        panic!("no instance answers");
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn ping(self, first: usize, user: String) {
        for turn in first.. {
            if self.is_over() {
                return;
            }
            let (answer, _) = self
                .call(turn, |client| client.of_user(&user, "ping"))
                .await;
            let answer: Value = answer.ok();
            assert_eq!(answer["becameOnline"], false, "{user}: {answer}");
            sleep(PING).await;
        }
    }

    /// Exactly one caller is told about each transition, and there is only one caller.
    async fn come_and_go(self, first: usize, user: String) {
        let mut turn = first;
        while !self.is_over() {
            for (verb, told) in [("connect", "becameOnline"), ("disconnect", "becameOffline")] {
                let (answer, is_first) =
                    self.call(turn, |client| client.of_user(&user, verb)).await;
                let answer: Value = answer.ok();
                assert!(!is_first || answer[told] == true, "{user}: {answer}");
                turn += 1;
                sleep(PACE).await;
            }
        }
    }

    /// Every answer of every instance has all users that ping.
    async fn look_up(self, instance: usize, users: Vec<String>) {
        let client = &self.clients[instance];
        let all: BTreeSet<&str> = users.iter().map(String::as_str).collect();
        while !self.is_over() {
            let request = client.request(Method::POST, "/v1/online");
            let request = request.json(&json!({ "userIds": users }));
            if let Ok(answer) = try_send(request).await
                && answer.status == 200
            {
                let answer: Value = answer.ok();
                let online = answer["online"].as_array().expect("a list").iter();
                let online: BTreeSet<&str> = online.filter_map(Value::as_str).collect();
                let missing: Vec<_> = all.difference(&online).collect();
                assert!(missing.is_empty(), "instance {instance}: {missing:?}");
            }
            sleep(PACE).await;
        }
    }
}
