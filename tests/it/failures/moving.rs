//! Moves to another store: through two rolling changes of the settings, no user that pings looks offline.

mod bad_input;
mod faults;
mod fleet;
mod groups;
mod late;
mod story;
mod told;
mod traffic;

use harness::client::{Client, crowd};
use harness::instance::Settings;
use harness::redis_cluster::RedisCluster;
use harness::redis_server::RedisServer;
use harness::serial::run_quietly;
use harness::sse::{EventSource, Habits, Memory};
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

use crate::ops::webhooks::receiver::{Conduct, Receiver};
use fleet::Fleet;
use story::Story;
use told::{is_told, with_receiver};
use traffic::Traffic;

const INSTANCES: usize = 3;

/// Short lives, so that the next store has every user soon.
fn settings(url: &str) -> Settings {
    Settings::new()
        .with("REDIS_URL", url)
        .with("PRESENCE_PARTITIONS", "1")
        .with("PRESENCE_TTL", "5s")
        .with("PRESENCE_TTL_MAX", "5s")
        .with("PRESENCE_PING_INTERVAL", "1s")
        .with("PRESENCE_DRAIN", "1s")
}

/// Streams of all users that have their snapshots.
async fn streams(clients: &[Client]) -> Vec<EventSource> {
    let sources = (0..2 * INSTANCES).map(|number| {
        let habits = Habits {
            query: "?snapshot=true".to_owned(),
            memory: Memory::Cursor,
            rest: Duration::ZERO,
        };
        EventSource::start(clients, number, habits)
    });
    let sources: Vec<_> = sources.collect();
    eventually_true("each stream has its snapshot", async || {
        sources
            .iter()
            .all(|source| source.has_heard("presence.ready"))
    })
    .await;
    sources
}

/// Connects a last user, and waits until each stream has it.
async fn all_caught_up(client: &Client, sources: &[EventSource]) {
    client.connect("marker").await;
    for source in sources {
        eventually_true("each stream has the last event", async || {
            Story::of(source).seen.contains("marker")
        })
        .await;
    }
}

async fn set_status(client: &Client, user: &str, status: Option<&str>) {
    let path = format!("/v1/users/{user}/status");
    let request = match status {
        Some(status) => client
            .request(Method::PUT, &path)
            .json(&json!({ "status": status, "data": {"n": 1} })),
        None => client.request(Method::DELETE, &path),
    };
    assert_eq!(harness::client::send(request).await.status, 200);
}

async fn status(client: &Client, user: &str) -> Option<Value> {
    client.user(user).await.status
}

/// Writes what must survive a move: statuses and groups, also of a user that is offline.
async fn write_before(client: &Client, steady: &[String]) {
    client.connect_each(steady).await;
    client.connect_as("steady-00000", "phone").await;
    client.connect("left").await;
    client.disconnect("left").await;
    set_status(client, "left", Some("sabbatical")).await;
    let team = json!({"members": ["left", "steady-00001"]});
    groups::write(client, Method::PUT, "team", team).await;
    groups::write(client, Method::PUT, "ended", json!({"members": ["left"]})).await;
    set_status(client, "steady-00001", Some("dnd")).await;
    set_status(client, "steady-00002", Some("dnd")).await;
}

/// Changes some of it while both stores are written.
async fn write_meanwhile(client: &Client) {
    client.connect("early").await;
    set_status(client, "steady-00002", None).await;
    groups::write(client, Method::PATCH, "team", json!({"add": ["marker"]})).await;
    groups::write(client, Method::DELETE, "ended", Value::Null).await;
}

/// The next store has everything that the calls wrote.
async fn assert_arrived(client: &Client) {
    let team = groups::read(client, "team").await;
    assert_eq!(team, (3, vec!["steady-00001".to_owned()]));
    assert_eq!(groups::read(client, "ended").await, (0, Vec::new()));
    let left = status(client, "left").await.expect("a status");
    assert_eq!(
        (&left["status"], &left["data"]["n"]),
        (&json!("sabbatical"), &json!(1))
    );
    let dnd = status(client, "steady-00001").await.expect("a status");
    assert_eq!(dnd["status"], "dnd");
    assert_eq!(status(client, "steady-00002").await, None);
}

/// The stream has one reset, and at its end exactly the steady users, none of which it has seen leave.
async fn assert_calm(source: &EventSource, steady: &[String], churning: &[String]) {
    eventually_true("the users that fell silent are gone", async || {
        let mut online = Story::of(source).online;
        online.retain(|user| !churning.contains(user));
        online == steady.iter().cloned().collect()
    })
    .await;
    let story = Story::of(source);
    for user in steady {
        assert_eq!(story.departures_of(user), 0, "{user}: {story:?}");
    }
    assert_eq!(story.resets, ["layout-changed"], "{story:?}");
}

/// Moves a fleet from the store of `before` to the next one of `during`, which `after` names alone.
async fn move_a_fleet(before: Settings, during: Settings, after: Settings) {
    let receiver = Receiver::start(Conduct::Answer(204)).await;
    let [before, during, after] =
        [before, during, after].map(|each| with_receiver(each, &receiver));
    let mut fleet = Fleet::start(INSTANCES, before).await;
    let clients = fleet.clients();
    let client = clients[0].clone();
    let (steady, churning) = (crowd("steady", 24), crowd("churning", 4));
    write_before(&client, &steady).await;
    let sources = streams(&clients).await;
    let mut traffic = Traffic::start(&clients, &steady, &churning);

    fleet.roll(during).await;
    write_meanwhile(&client).await;
    fleet.has_phase(2, Duration::from_secs(60)).await;
    assert!(
        client.user("left").await.last_seen_at.is_some(),
        "the former store is asked"
    );
    client.connect("late").await;
    fleet.has_phase(3, Duration::from_secs(30)).await;
    fleet.roll(after).await;

    all_caught_up(&client, &sources).await;
    let told = is_told(&receiver, "user.online marker").await;
    let is_reset = |each: &&String| each.starts_with("presence.reset");
    let resets: Vec<_> = told.iter().filter(is_reset).collect();
    assert_eq!(resets, ["presence.reset layout-changed"]);
    for source in &sources {
        assert_calm(source, &steady, &churning).await;
    }
    assert_arrived(&client).await;
    traffic.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_partition_becomes_sixteen_and_no_user_looks_offline() {
    run_quietly();
    let redis = RedisServer::start().await;
    let before = settings(&redis.url());
    let during = before
        .clone()
        .with("REDIS_URL_NEXT", &redis.url())
        .with("PRESENCE_KEY_PREFIX_NEXT", "next:")
        .with("PRESENCE_PARTITIONS_NEXT", "16");
    let after = before
        .clone()
        .with("PRESENCE_KEY_PREFIX", "next:")
        .with("PRESENCE_PARTITIONS", "16");
    move_a_fleet(before, during, after).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_partitions_of_one_redis_become_sixty_four_of_a_cluster_and_no_user_looks_offline()
{
    run_quietly();
    let redis = RedisServer::start().await;
    let cluster = RedisCluster::start().await;
    let before = settings(&redis.url()).with("PRESENCE_PARTITIONS", "16");
    let during = before.clone().with("REDIS_URL_NEXT", &cluster.url());
    let after = settings(&cluster.url()).with("PRESENCE_PARTITIONS", "64");
    move_a_fleet(before, during, after).await;
}
