//! The history in Redis is lost or set back, by an operator, by eviction or by a failover, or a bus message is forged.

use std::time::Duration;

use harness::deployment::Deployment;
use harness::instance::{Instance, Settings};
use harness::names::{Names, partitions_of_tests};
use harness::redis_server::RedisServer;
use harness::sse::{Stream, briefs};
use tokio::time::sleep;

/// By then a sweep has detected the loss, and the bus has read the history.
const NOTICED: Duration = Duration::from_millis(1_500);

async fn lose_the_history(deployment: &Deployment) {
    let deleted = deployment.sum("DEL", "events", &[]).await;
    assert!(deleted > 0);
}

async fn assert_is_reset(stream: &mut Stream) {
    let reset = stream.next().await;
    assert_eq!(reset.name, "presence.reset", "{reset:?}");
    assert_eq!(reset.json()["reason"], "history-gone");
}

#[tokio::test]
async fn a_lost_history_resets_every_stream_once_before_anything_happens() {
    let deployment = Deployment::of(2, Settings::new()).await;
    let clients = deployment.clients();
    let mut streams = Vec::new();
    for client in &clients {
        streams.push(Stream::open(client, "").await);
        streams.push(Stream::open(client, "?userIds=alice").await);
    }
    let mut with_snapshot = Stream::open(&clients[0], "?snapshot=true").await;
    assert!(with_snapshot.snapshot().await.is_empty());
    clients[0].connect("alice").await;
    with_snapshot.changes(1).await;
    for stream in &mut streams {
        stream.changes(1).await;
    }
    lose_the_history(&deployment).await;
    if partitions_of_tests() > 1 {
        // Among several, a partition in which nothing happens is compared about once a minute. A call makes each
        // instance compare it at once, and another connect of the same connection is no event.
        for client in &clients {
            client.connect("alice").await;
        }
    }
    for stream in &mut streams {
        assert_is_reset(stream).await;
    }
    assert_is_reset(&mut with_snapshot).await;
    assert_eq!(with_snapshot.snapshot().await, ["alice"]);
    clients[1].disconnect("alice").await;
    streams.push(with_snapshot);
    for stream in &mut streams {
        assert_eq!(stream.next().await.brief(), "offline alice", "and no other");
    }
}

#[tokio::test]
async fn a_stream_opened_after_a_loss_has_no_earlier_event() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    client.connect("alice").await;
    client.connect("bob").await;
    lose_the_history(&deployment).await;
    let mut plain = Stream::open(&client, "").await;
    let mut chosen = Stream::open(&client, "?userIds=alice&snapshot=true").await;
    let mut everyone = Stream::open(&client, "?snapshot=true").await;
    assert_eq!(chosen.snapshot().await, ["alice"]);
    assert_eq!(everyone.snapshot().await, ["alice", "bob"]);
    sleep(NOTICED).await;
    client.disconnect("alice").await;
    for stream in [&mut plain, &mut chosen, &mut everyone] {
        assert_eq!(stream.next().await.brief(), "offline alice");
    }
}

/// By then the ring begins after the start of the history, so that the old history has no position to resume from.
#[tokio::test]
async fn a_loss_does_not_reset_streams_again_and_again() {
    let deployment = Deployment::of(1, Settings::new().with("PRESENCE_HISTORY", "1s")).await;
    let client = deployment.client();
    for user in ["alice", "bob", "carol"] {
        client.connect(user).await;
        sleep(Duration::from_millis(900)).await;
    }
    lose_the_history(&deployment).await;
    let mut plain = Stream::open(&client, "").await;
    let mut chosen = Stream::open(&client, "?userIds=bob&snapshot=true").await;
    let mut unknown = Stream::resume(&client, "", "not-a-cursor").await;
    sleep(NOTICED).await;
    for stream in [&mut plain, &mut chosen, &mut unknown] {
        let events = stream.unread();
        let resets = events.iter().filter(|event| event.name == "presence.reset");
        assert!(resets.count() <= 2, "{} events", events.len());
    }
    client.disconnect("bob").await;
    for stream in [&mut plain, &mut chosen, &mut unknown] {
        assert_eq!(stream.next().await.brief(), "offline bob");
    }
}

/// As after a failover to a server that lacks the last events and whose clock is behind.
#[tokio::test]
async fn events_with_positions_before_the_newest_follow_a_reset() {
    let redis = RedisServer::start_with_clock().await;
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    stream.changes(1).await;
    redis.set_clock_ahead(-20_000);
    let names = Names::default();
    redis.sum("DEL", &names.all("events"), &[]).await;
    let users = names.neighbours("alice", 3);
    let [bob, carol, dave] = [0, 1, 2].map(|number| format!("online {}", users[number]));
    // One event comes before a sweep detects the loss, and one after it.
    client.connect(&users[0]).await;
    assert_is_reset(&mut stream).await;
    sleep(NOTICED).await;
    let mut opened = Stream::open(&client, "").await;
    client.connect(&users[1]).await;
    client.connect(&users[2]).await;
    let told = briefs(&stream.changes(2).await);
    let [first, last] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(
        [first, last] == [&carol, &dave] || [first, last] == [&bob, &carol],
        "{told:?}"
    );
    assert_eq!(briefs(&opened.changes(2).await), [carol, dave]);
}

#[tokio::test]
async fn a_forged_bus_message_hides_no_later_event() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    let names = deployment.names();
    let [history, channel, epoch] = ["events", "bus", "epoch"].map(|name| names.key(name, "alice"));
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    stream.changes(1).await;
    let epoch: String = deployment.command(&["GET", &epoch]).await;
    let newest = ["XREVRANGE", &history, "+", "-", "COUNT", "1"];
    let newest: Vec<(String, Vec<String>)> = deployment.command(&newest).await;
    let newest = &newest[0].0;
    let (millis, _) = newest.split_once('-').expect("a position");
    let millis: u64 = millis.parse().expect("a time");
    for ahead in [60_000, 500] {
        let forged = format!("{epoch}\n{}-0 {newest} new kind", millis + ahead);
        deployment
            .command::<()>(&[names.publish(), &channel, &forged])
            .await;
    }
    sleep(NOTICED).await;
    for user in names.neighbours("alice", 2) {
        client.connect(&user).await;
        let told = stream.changes(1).await;
        assert_eq!(briefs(&told), [format!("online {user}")]);
    }
}

#[tokio::test]
async fn a_cursor_from_before_a_step_back_of_the_clock_resumes() {
    let redis = RedisServer::start_with_clock().await;
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    let instances = [
        Instance::start(&settings).await,
        Instance::start(&settings).await,
    ];
    let client = instances[0].client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    stream.changes(1).await;
    redis.set_clock_ahead(-600_000);
    sleep(NOTICED).await;
    let cursor = stream.last_id();
    client.connect("bob").await;
    for instance in &instances {
        let mut resumed = Stream::resume(&instance.client(), "", &cursor).await;
        assert_eq!(resumed.next().await.brief(), "online bob");
        let cursor = Stream::open(&instance.client(), "").await.last_id();
        let resumed = Stream::resume(&instance.client(), "", &cursor).await;
        assert!(!resumed.raw().contains("reset"), "{}", resumed.raw());
    }
}

/// The history goes on, and all of its events were delivered before.
#[tokio::test]
async fn after_a_lost_epoch_the_old_history_is_not_replayed() {
    let deployment = Deployment::of(2, Settings::new()).await;
    let clients = deployment.clients();
    let mut streams = Vec::new();
    for client in &clients {
        streams.push(Stream::open(client, "").await);
    }
    clients[0].connect("alice").await;
    for stream in &mut streams {
        stream.changes(1).await;
    }
    deployment.sum("DEL", "epoch", &[]).await;
    for stream in &mut streams {
        let reset = stream.next().await;
        assert_eq!(reset.json()["reason"], "data-lost", "{reset:?}");
    }
    // Each server of a cluster is compared on its own. An event before the last reset may count as lost.
    let mut told = vec![String::new(); streams.len()];
    for user in ["bob", "carol", "dave", "erin"] {
        if told.iter().all(|told| told.starts_with("online ")) {
            break;
        }
        clients[1].connect(user).await;
        for (stream, told) in streams.iter_mut().zip(&mut told) {
            *told = stream.next().await.brief();
        }
    }
    for (stream, told) in streams.iter().zip(&told) {
        assert!(told.starts_with("online "), "{told}");
        let replayed = stream.raw().matches("alice").count();
        assert_eq!(replayed, 1, "{}", stream.raw());
    }
}
