//! Two instances on one Redis behind a proxy, with users, streams, and the checks of both.

use std::time::Duration;

use harness::client::{Client, crowd};
use harness::instance::{Instance, Settings};
use harness::proxy::Proxy;
use harness::redis_server::RedisServer;
use harness::serial::run_quietly;
use harness::sse::{Event, Stream, alternating, assert_same_changes, briefs};
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::task::JoinSet;

use super::pingers::{Pingers, answered_or_refused, assert_refused};

/// The TTL.
const TTL: Duration = Duration::from_secs(3);

/// Longer than the hold of departures after an outage: a ping interval and its margin.
const GRACE: Duration = Duration::from_secs(3);

/// A short TTL, and a ping interval after which a client can repeat a failed ping in time.
pub(crate) fn settings() -> Settings {
    Settings::new()
        .with("PRESENCE_TTL", "3s")
        .with("PRESENCE_PING_INTERVAL", "2s")
}

pub(crate) struct Scene {
    pub(crate) redis: RedisServer,
    pub(crate) proxy: Proxy,
    pub(crate) clients: Vec<Client>,
    /// The processes run as long as the scene.
    _instances: Vec<Instance>,
    streams: Vec<Stream>,
    seen: Vec<Vec<Event>>,
    living: Vec<String>,
    silent: Vec<String>,
    silent_until: Timestamp,
    pingers: Pingers,
}

impl Scene {
    pub(crate) async fn open() -> Self {
        Self::on(RedisServer::start().await).await
    }

    pub(crate) async fn on(redis: RedisServer) -> Self {
        let proxy = Proxy::to(redis.port()).await;
        let settings = settings().with("REDIS_URL", &proxy.url());
        Self::of(redis, proxy, settings).await
    }

    /// Starts two instances with `settings` and connects all users.
    pub(crate) async fn of(redis: RedisServer, proxy: Proxy, settings: Settings) -> Self {
        run_quietly();
        let mut instances = Vec::new();
        for _ in 0..2 {
            instances.push(Instance::start(&settings).await);
        }
        let clients: Vec<Client> = instances.iter().map(Instance::client).collect();
        all_ready(&clients).await;
        let mut streams = Vec::new();
        for client in &clients {
            streams.push(Stream::open(client, "").await);
        }
        let (living, silent) = (crowd("living", 8), crowd("silent", 8));
        clients[0].connect_each(&living).await;
        let connected = clients[1].connect_each(&silent).await;
        let last = connected.iter().map(|each| each.expires_at).max();
        let pingers = Pingers::start(&living, &clients);
        Self {
            redis,
            proxy,
            seen: vec![Vec::new(); streams.len()],
            streams,
            _instances: instances,
            living,
            silent,
            silent_until: last.expect("some are silent"),
            pingers,
            clients,
        }
    }

    /// Checks the answers of all instances during an outage, until the stopped users are long expired.
    pub(crate) async fn outlast(&self) {
        for client in &self.clients {
            eventually_true("an outage shows in the readiness", async || {
                client.get("/readyz").await.status == 503
            })
            .await;
        }
        let end = self.silent_until.plus(Duration::from_secs(2));
        while Timestamp::now().millis_after(end) < 0 {
            for client in &self.clients {
                assert_refused(&client.get("/readyz").await);
                assert_eq!(client.get("/livez").await.status, 200);
            }
            self.call_everything().await;
        }
    }

    /// Makes every call at every instance at once and checks that each is answered or refused within the limit.
    pub(crate) async fn call_everything(&self) {
        let mut calls = JoinSet::new();
        for request in self.clients.iter().flat_map(every_call) {
            calls.spawn(answered_or_refused(request));
        }
        calls.join_all().await;
    }

    /// Waits until the instances are ready, and then until wrong departures would have shown.
    pub(crate) async fn recover(&mut self) {
        all_ready(&self.clients).await;
        (Timestamp::now().plus(GRACE).plus(TTL)).pass().await;
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let marker = format!("marker-{number}");
            let mut events = stream.events_before_now(&self.clients[0], &marker).await;
            self.seen[number].append(&mut events);
        }
        let tally = self.pingers.stop().await;
        assert!(tally.answered > 0, "{tally:?}");
    }

    /// Checks that nothing was lost: the stopped users left once, the others did not leave, and the streams agree.
    pub(crate) fn assert_nothing_lost(&self) {
        for events in &self.seen {
            let told = briefs(events);
            assert!(events.iter().all(Event::is_change), "{told:?}");
            let histories = alternating(events);
            for user in &self.living {
                assert_eq!(histories[user], ["online"], "{user}: {told:?}");
            }
            for user in &self.silent {
                assert_eq!(histories[user], ["online", "expired"], "{user}: {told:?}");
            }
        }
        assert_same_changes(&self.seen[0], &self.seen[1]);
    }

    /// Checks that data was lost: every stream has one reset, and the events after it are consistent.
    pub(crate) fn assert_reset(&self, departures: &[&str]) {
        for events in &self.seen {
            let told = briefs(events);
            let is_reset = |event: &Event| event.name == "presence.reset";
            let resets = events.iter().filter(|event| is_reset(event)).count();
            assert_eq!(resets, 1, "{told:?}");
            let reset = events.iter().position(is_reset).expect("counted");
            let mut left = alternating_from_anything(&events[reset + 1..]);
            left.retain(|user| user != "caller" && user != "pinger");
            left.sort_unstable();
            assert_eq!(left, departures, "{told:?}");
        }
    }

    pub(crate) fn silent(&self) -> Vec<&str> {
        self.silent.iter().map(String::as_str).collect()
    }
}

/// The users that left after a reset, in order. Panics if the events of a user do not alternate.
fn alternating_from_anything(events: &[Event]) -> Vec<String> {
    let mut left = Vec::new();
    let mut last = std::collections::BTreeMap::new();
    for event in events {
        let before = last.insert(event.user(), event.name.clone());
        assert_ne!(before.as_ref(), Some(&event.name), "{event:?}");
        if event.name == "user.offline" {
            left.push(event.user());
        }
    }
    left
}

pub(crate) async fn all_ready(clients: &[Client]) {
    for client in clients {
        eventually_true("the instance is ready", async || {
            client.get("/readyz").await.status == 200
        })
        .await;
    }
}

fn every_call(client: &Client) -> Vec<RequestBuilder> {
    let lookup = json!({"userIds": ["living-00000", "nobody"]});
    vec![
        client.of_user("caller", "connect"),
        client.of_user("pinger", "ping"),
        client.of_connection("pinger", "ping", "phone"),
        client.of_connection("caller", "disconnect", "phone"),
        client.of_user("caller", "disconnect"),
        client.request(Method::GET, "/v1/users/caller"),
        client.request(Method::POST, "/v1/online").json(&lookup),
        client.request(Method::GET, "/v1/online"),
        client.request(Method::GET, "/v1/online/count"),
    ]
}
