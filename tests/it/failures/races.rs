//! Concurrent calls for the same users at several instances.

use std::time::Duration;

use harness::client::crowd;
use harness::deployment::Deployment;
use harness::instance::{Instance, Settings};
use harness::names::Names;
use harness::process::Signal;
use harness::proxy::Proxy;
use harness::redis_server::RedisServer;
use harness::serial::run_quietly;
use harness::sse::{Stream, assert_same_changes};
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;

use crate::failures::traffic::{Told, Traffic, assert_told_is_what_happened};

#[tokio::test]
async fn answers_of_racing_calls_agree_with_the_events() {
    let deployment = Deployment::of(3, Settings::mortal()).await;
    let clients = deployment.clients();
    let mut streams = Vec::new();
    for client in &clients {
        streams.push(Stream::open(client, "").await);
    }
    let traffic = Traffic::start(12, &crowd("user", 20), &clients);
    Timestamp::now().plus(Duration::from_secs(4)).pass().await;
    eventually_true("users come online often", async || {
        traffic.came_online() > 100
    })
    .await;
    assert!(!traffic.some_unanswered(), "every call is answered");
    let told = traffic.stop().await;
    // Lookups say so at the deadline, and streams after the next sweep.
    eventually_true("all remaining departures are announced", async || {
        clients[0].metric("presence_users_online").await == Some(0)
    })
    .await;
    let mut seen = Vec::new();
    for (number, stream) in streams.iter_mut().enumerate() {
        let marker = format!("marker-{number}");
        let events = stream.events_before_now(&clients[number], &marker).await;
        assert_told_is_what_happened(&told, &events);
        seen.push(events);
    }
    for other in &seen[1..] {
        assert_same_changes(&seen[0], other);
    }
}

/// Bursts of calls begin when users expire, so that pings, connects and sweeps meet.
#[tokio::test]
async fn answers_of_calls_that_race_with_expiries_agree_with_the_events() {
    let settings = Settings::new()
        .with("PRESENCE_TTL", "500ms")
        .with("PRESENCE_PING_INTERVAL", "100ms");
    let deployment = Deployment::of(3, settings).await;
    let clients = deployment.clients();
    let mut stream = Stream::open(&clients[0], "").await;
    let users = crowd("user", 40);
    let mut told = Told::new();
    for round in 0..10 {
        let traffic = Traffic::start(12, &users, &clients);
        Timestamp::now()
            .plus(Duration::from_millis(200))
            .pass()
            .await;
        for (user, (online, offline)) in traffic.stop().await {
            let total = told.entry(user).or_default();
            *total = (total.0 + online, total.1 + offline);
        }
        // The deadlines of the users of the last calls are near when the next burst begins.
        Timestamp::now()
            .plus(Duration::from_millis(380 + 20 * round))
            .pass()
            .await;
    }
    let events = stream.events_before_now(&clients[1], "marker").await;
    let expired = events.iter().filter(|event| event.reason() == "expired");
    assert!(expired.count() > 10, "some did expire");
    assert_told_is_what_happened(&told, &events);
}

/// A sweep reads a deadline. Before the sweep writes it, the connection with this deadline is closed, and the other
/// connection has an earlier deadline.
#[tokio::test]
async fn a_sweep_with_an_outdated_deadline_does_not_delay_the_departure() {
    run_quietly();
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    let settings = Settings::mortal().with("PRESENCE_TTL", "3s");
    let instance = Instance::start(&settings.with("REDIS_URL", &proxy.url())).await;
    let client = instance.client();
    let mut stream = Stream::open(&client, "").await;
    let entered = client.connect_as("alice", "laptop").await;
    entered.expires_at.less(Duration::from_secs(2)).pass().await;
    let laptop = client.ping_as("alice", "laptop").await;
    entered
        .expires_at
        .less(Duration::from_millis(700))
        .pass()
        .await;
    let phone = client.ping_as("alice", "phone").await;
    proxy.hold("MULTI");
    eventually_true(
        "the deadline of the phone is read and not written down",
        async || proxy.holds(),
    )
    .await;
    let left = client.disconnect_as("alice", "phone").await;
    assert!(left.online, "the laptop is still there");
    proxy.pass();
    let gone = stream.changes(2).await.pop().expect("two changes");
    assert_eq!(
        (gone.brief(), gone.reason()),
        ("offline alice".to_owned(), "expired".to_owned())
    );
    let late = gone.timestamp().millis_after(laptop.expires_at);
    let too_late = phone.expires_at.millis_after(laptop.expires_at);
    assert!(
        (0..too_late / 2).contains(&late),
        "{late} ms late; the phone's deadline was {too_late} ms later"
    );
}

/// Instances with different TTLs on one Redis server. The first instance is within a sweep: it has read that alice has
/// half a minute, and has not written it yet.
struct HeldSweep {
    proxy: Proxy,
    sweeper: Instance,
    others: Vec<Instance>,
    _redis: RedisServer,
}

impl HeldSweep {
    async fn with_other_instances(ttls: &[&str]) -> Self {
        let redis = RedisServer::start().await;
        let proxy = Proxy::to(redis.port()).await;
        let settings = Settings::new().with("PRESENCE_PING_INTERVAL", "500ms");
        let long = settings.clone().with("PRESENCE_TTL", "30s");
        let sweeper = Instance::start(&long.with("REDIS_URL", &proxy.url())).await;
        let mut others = Vec::new();
        for ttl in ttls {
            let short = settings.clone().with("PRESENCE_TTL", ttl);
            let other = Instance::start(&short.with("REDIS_URL", &redis.url())).await;
            // A sweep of another instance would correct the result.
            other.send(Signal::Stop);
            others.push(other);
        }
        sweeper.client().connect("alice").await;
        proxy.hold("MULTI");
        // As if alice had pinged since the last sweep that looked at her.
        let index = Names::default().key("deadlines", "alice");
        redis
            .command::<()>(&["ZADD", &index, "XX", "1", "alice"])
            .await;
        eventually_true("her deadline is read and not written down", async || {
            proxy.holds()
        })
        .await;
        for other in &others {
            other.send(Signal::Continue);
        }
        Self {
            proxy,
            sweeper,
            others,
            _redis: redis,
        }
    }
}

/// The user disconnects and connects again with a shorter TTL during the sweep.
#[tokio::test]
async fn a_sweep_with_a_deadline_from_before_a_reconnect_does_not_delay_the_departure() {
    let sweep = HeldSweep::with_other_instances(&["2s"]).await;
    let short = sweep.others[0].client();
    let mut stream = Stream::open(&short, "").await;
    assert!(short.disconnect("alice").await.became_offline);
    let back = short.connect("alice").await;
    assert!(back.became_online);
    sweep.proxy.pass();
    let gone = stream.changes(3).await.pop().expect("three changes");
    assert_eq!(gone.reason(), "expired");
    let late = gone.timestamp().millis_after(back.expires_at);
    assert!((0..5_000).contains(&late), "{late} ms late");
    drop(sweep.sweeper);
}

/// The index has the grant of the unnamed connection. A sweep does not restore an earlier grant.
#[tokio::test]
async fn a_sweep_with_an_outdated_deadline_does_not_change_last_seen() {
    let sweep = HeldSweep::with_other_instances(&["2s", "3s"]).await;
    let mut stream = Stream::open(&sweep.others[0].client(), "").await;
    let mut last = None;
    for other in &sweep.others {
        last = Some(other.client().ping("alice").await.expires_at);
    }
    sweep.proxy.pass();
    let gone = stream.changes(1).await.pop().expect("a change");
    let ttl = last.map(|last| last.millis_after(gone.last_seen_at()));
    assert_eq!(ttl, Some(3_000));
    drop(sweep.sweeper);
}

/// A note about a shortened deadline is for the sweeps that run at that moment. A note from the future must not affect
/// all sweeps until then.
#[tokio::test]
async fn notes_of_shortened_deadlines_from_the_future_are_removed() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    let noted_in_5138 = "99999999999999-0";
    let shortened = deployment.names().key("shortened", "alice");
    let note = ["XADD", &shortened, noted_in_5138, "alice", "1"];
    deployment.command::<()>(&note).await;
    client.connect_as("alice", "laptop").await;
    Timestamp::now()
        .plus(Duration::from_millis(20))
        .pass()
        .await;
    client.connect_as("alice", "phone").await;
    client.disconnect_as("alice", "phone").await;
    let notes = ["XRANGE", &shortened, "-", "+"];
    let notes: Vec<(String, Vec<String>)> = deployment.command(&notes).await;
    let [(id, _)] = notes.as_slice() else {
        panic!("{notes:?}")
    };
    assert!(!id.starts_with("99999999999999"), "{id}");
}
