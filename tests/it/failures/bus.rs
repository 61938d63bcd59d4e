//! Failures of the subscription to the bus.

use std::time::Duration;

use harness::client::crowd;
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::sse::{Stream, assert_same_changes};
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;

use crate::failures::traffic::{Traffic, assert_told_is_what_happened};

#[tokio::test]
async fn a_cut_bus_loses_no_event() {
    let deployment = Deployment::on_one_server(2, Settings::new()).await;
    let clients = deployment.clients();
    let mut streams = Vec::new();
    for client in &clients {
        streams.push(Stream::open(client, "").await);
    }
    let traffic = Traffic::start(4, &crowd("user", 20), &clients);
    let mut cuts = 0;
    for _ in 0..5 {
        Timestamp::now()
            .plus(Duration::from_millis(400))
            .pass()
            .await;
        let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
        cuts += deployment.redis().command::<usize>(&kill).await;
    }
    assert!(
        cuts >= 6,
        "both instances were cut, again and again: {cuts}"
    );
    let told = traffic.stop().await;
    let mut seen = Vec::new();
    for (number, stream) in streams.iter_mut().enumerate() {
        let marker = format!("marker-{number}");
        let events = stream.events_before_now(&clients[number], &marker).await;
        assert!(events.iter().all(|event| event.name != "presence.reset"));
        assert_told_is_what_happened(&told, &events);
        seen.push(events);
    }
    assert!(seen[0].len() > 100, "there was traffic");
    assert_same_changes(&seen[0], &seen[1]);
}

#[tokio::test]
async fn a_bus_that_was_cut_while_idle_delivers_the_next_event() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
    assert_eq!(deployment.redis().command::<usize>(&kill).await, 1);
    eventually_true("the subscription is made again by itself", async || {
        let clients = ["CLIENT", "LIST", "TYPE", "pubsub"];
        let listed: String = deployment.redis().command(&clients).await;
        !listed.trim().is_empty()
    })
    .await;
    client.connect("alice").await;
    assert_eq!(stream.next().await.brief(), "online alice");
}

#[tokio::test]
async fn keyspace_events_of_other_programs_stay_enabled() {
    let redis = harness::redis_server::RedisServer::start().await;
    let set = ["CONFIG", "SET", "notify-keyspace-events", "Kg"];
    redis.command::<()>(&set).await;
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    let _instance = harness::instance::Instance::start(&settings).await;
    eventually_true("Ex is merged in", async || {
        let get = ["CONFIG", "GET", "notify-keyspace-events"];
        let flags: Vec<String> = redis.command(&get).await;
        ['K', 'g', 'E', 'x']
            .iter()
            .all(|flag| flags[1].contains(*flag))
    })
    .await;
}

#[tokio::test]
async fn a_change_of_the_keyspace_events_of_redis_is_logged_once() {
    let redis = harness::redis_server::RedisServer::start().await;
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    let message = "changed notify-keyspace-events of the whole Redis server";
    let first = harness::instance::Instance::start(&settings).await;
    eventually_true("the change is logged", async || {
        first.log().contains(message)
    })
    .await;
    let second = harness::instance::Instance::start(&settings).await;
    let mut stream = Stream::open(&second.client(), "").await;
    second.client().connect("alice").await;
    stream.next().await;
    assert!(!second.log().contains(message), "{}", second.log());
}
