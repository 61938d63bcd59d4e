//! `GET /v1/status`: the instances, the sweeps and the history, for operators.

use std::time::Duration;

use harness::client::{Client, send};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::Settings;
use harness::names::partitions_of_tests;
use harness::process::Signal;
use harness::sse::Stream;
use harness::timestamp::Timestamp;
use harness::wait::{eventually, eventually_true};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::problems::problem;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ServiceStatus {
    instances: Vec<InstanceStatus>,
    online: u64,
    sweep: SweepStatus,
    history: HistoryStatus,
    partitions: usize,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InstanceStatus {
    id: String,
    version: String,
    started_at: Timestamp,
    streams: u64,
    connections: u64,
    last_sweep_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SweepStatus {
    last_at: Option<Timestamp>,
    grace_until: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryStatus {
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
}

async fn status(client: &Client) -> ServiceStatus {
    client.get("/v1/status").await.ok()
}

/// The ids of the instances, the oldest first.
async fn ids(client: &Client) -> Vec<String> {
    let instances = status(client).await.instances.into_iter();
    instances.map(|instance| instance.id).collect()
}

async fn the_state_of_a_service_that_is_well(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let empty = status(&client).await;
    assert_eq!(empty.online, 0);
    assert!(
        empty.history.oldest.is_none() && empty.history.newest.is_none(),
        "{empty:?}"
    );
    let _stream = Stream::open(&client, "").await;
    let alice = client.connect("alice").await;
    client.connect("bob").await;
    client.disconnect("bob").await;
    let status = eventually("all partitions are swept", async || {
        let status = status(&client).await;
        status.sweep.last_at.is_some().then_some(status)
    })
    .await;
    assert_eq!(status.online, 1);
    let partitions = match store {
        Store::Redis => partitions_of_tests(),
        _ => 1,
    };
    assert_eq!(status.partitions, partitions);
    let [instance] = &status.instances[..] else {
        panic!("one instance: {status:?}");
    };
    assert_eq!(instance.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(instance.streams, 1);
    assert!(instance.connections >= 1, "{instance:?}");
    let connected = alice.expires_at.millis_after(instance.started_at);
    assert!((0..600_000).contains(&connected), "{instance:?}");
    for swept in [instance.last_sweep_at, status.sweep.last_at] {
        let swept = swept.expect("a sweep");
        let before = alice.expires_at.millis_after(swept);
        assert!((0..=62_000).contains(&before), "{before} ms: {status:?}");
    }
    assert!(status.sweep.grace_until.is_none(), "{status:?}");
    let (oldest, newest) = (status.history.oldest, status.history.newest);
    assert!(oldest.is_some() && oldest <= newest, "{status:?}");
}

async fn a_held_departure_shows_the_end_of_its_hold(store: Store) {
    let settings = Settings::new()
        .with("PRESENCE_TTL", "2s")
        .with("PRESENCE_PING_INTERVAL", "1s");
    let deployment = Deployment::with(store, settings).await;
    let (client, instance) = (deployment.client(), &deployment.instances[0]);
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    stream.changes(1).await;
    instance.send(Signal::Stop);
    sleep(Duration::from_millis(3_000)).await;
    instance.send(Signal::Continue);
    let held = eventually("the departure is held", async || {
        let status = status(&client).await;
        let until = status.sweep.grace_until?;
        Some((until, status.sweep.last_at?, status.online))
    })
    .await;
    assert!(held.0 > held.1, "{held:?}");
    assert_eq!(held.2, 0, "the user reads as offline");
    let left = stream.changes(1).await;
    assert!(left[0].timestamp().millis_after(held.0) >= 0, "{held:?}");
    eventually_true("nothing is held any more", async || {
        status(&client).await.sweep.grace_until.is_none()
    })
    .await;
}

async fn a_query_or_a_body_is_400(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let refused = problem(&client.get("/v1/status?verbose=1").await, 400);
    assert!(refused.detail.contains("verbose"), "{refused:?}");
    let with_body = client.request(Method::GET, "/v1/status");
    problem(&send(with_body.json(&json!({"all": true}))).await, 400);
    problem(&client.post("/v1/status", &json!({})).await, 405);
}

on_both_stores!(
    the_state_of_a_service_that_is_well,
    a_held_departure_shows_the_end_of_its_hold,
    a_query_or_a_body_is_400,
);

#[tokio::test]
async fn instances_come_and_go() {
    let mut deployment = Deployment::on_one_server(3, Settings::new()).await;
    let clients = deployment.clients();
    let _stream = Stream::open(&clients[1], "").await;
    let mut all = Vec::new();
    for client in &clients {
        all = ids(client).await;
    }
    assert_eq!(all.len(), 3, "{all:?}");
    let streams = status(&clients[1]).await.instances.into_iter();
    let streams: Vec<_> = streams.map(|instance| instance.streams).collect();
    assert_eq!(streams, [0, 1, 0], "in order of their starts");

    deployment.instances[2].send(Signal::Terminate);
    deployment.instances[2].exit().await;
    assert_eq!(ids(&clients[0]).await, all[..2], "a drain withdraws");

    deployment.redis().flush_all().await;
    assert_eq!(ids(&clients[0]).await.len(), 1);
    assert_eq!(ids(&clients[1]).await, all[..2], "each registers again");

    deployment.instances[1].kill();
    let names = deployment.names();
    let (index, reports) = (&names.all("instances")[0], &names.all("reports")[0]);
    let listed = ids(&clients[0]).await;
    assert_eq!(listed, all[..2], "killed, and not missed yet");
    let redis = deployment.redis();
    redis
        .command::<()>(&["ZINCRBY", index, "-30001", &all[1]])
        .await;
    assert_eq!(ids(&clients[0]).await, all[..1], "silent for 30 s");
    assert_eq!(redis.command::<u64>(&["HLEN", reports]).await, 1);
    redis
        .command::<()>(&["ZADD", index, "9999999999999", &all[1]])
        .await;
    redis
        .command::<()>(&["HSET", reports, &all[1], "1 0 0 0 1.0"])
        .await;
    assert_eq!(ids(&clients[0]).await, all[..1], "the clock was set back");
}

#[tokio::test]
async fn a_thousand_instances_are_listed_and_no_more() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    let own = ids(&client).await;
    let names = deployment.names();
    let (index, reports) = (&names.all("instances")[0], &names.all("reports")[0]);
    let script = "
        local now = redis.call('TIME')[1] * 1000
        for number = 1, 1500 do
          redis.call('ZADD', KEYS[1], now - 1500 + number, 'old-' .. number)
          redis.call('HSET', KEYS[2], 'old-' .. number, '1 2 3 4 1.0')
        end";
    deployment
        .command::<()>(&["EVAL", script, "2", index, reports])
        .await;
    for _ in 0..6 {
        let listed = ids(&client).await;
        assert_eq!(listed.len(), 1_000);
        assert_eq!(listed.last(), own.last(), "started last");
    }
    for key in [("ZCARD", index), ("HLEN", reports)] {
        assert_eq!(deployment.command::<u64>(&[key.0, key.1]).await, 1_000);
    }
    assert!(deployment.command::<i64>(&["PTTL", index]).await > 0);
}
