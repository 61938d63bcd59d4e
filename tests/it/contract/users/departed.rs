//! The memory in Redis of departed users, which have a `lastSeenAt`.

use std::time::Duration;

use harness::client::crowd;
use harness::deployment::Deployment;
use harness::instance::{Instance, Settings};
use harness::names::{Names, partitions_of_tests};
use harness::redis_server::RedisServer;
use harness::sse::{Event, Stream};
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;

const GUESTS: usize = 2_000;

/// The most keys for the last-seen times of the guests in each partition.
const MOST_KEYS: usize = 200;

/// The most memory of a departed guest in Redis, in bytes: keys and values with their overhead.
const MOST_BYTES: u64 = 40;

/// The most memory of the keys of a partition with few guests, in bytes.
const MOST_BYTES_OF_FEW: u64 = 2_000;

/// Checks the memory of `guests` departed guests.
async fn assert_is_little(redis: &RedisServer, guests: usize) {
    let partitions = partitions_of_tests();
    let keys = keys_of_last_seen(redis).await;
    assert!(keys.len() <= MOST_KEYS * partitions, "{} keys", keys.len());
    let bytes = redis.memory_of_all(&keys).await;
    let most = MOST_BYTES * guests as u64 + MOST_BYTES_OF_FEW * (partitions as u64 - 1);
    assert!(bytes <= most, "{bytes} bytes for {guests} guests");
}

/// The keys with last-seen times.
async fn keys_of_last_seen(redis: &RedisServer) -> Vec<String> {
    let pattern = Names::default().pattern("seen*");
    redis.command(&["KEYS", &pattern]).await
}

/// Waits for the departures of `count` users, and returns them.
async fn departures(stream: &mut Stream, count: usize) -> Vec<Event> {
    let mut changes = stream.changes(2 * count).await;
    changes.retain(|event| event.name == "user.offline");
    changes
}

#[tokio::test]
async fn departed_guests_share_a_few_keys() {
    let deployment = Deployment::on_one_server(1, Settings::mortal()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    let mut stream = Stream::open(&client, "").await;
    let guests = crowd("4f2c7a51-98d3-4b60-ae17-c05d92e8", GUESTS);
    client.connect_each(&guests).await;
    let departures = departures(&mut stream, GUESTS).await;
    assert_eq!(departures.len(), GUESTS);
    assert_is_little(redis, GUESTS).await;
    for departure in departures.iter().step_by(20) {
        let user = client.user(&departure.user()).await;
        assert_eq!(user.last_seen_at, Some(departure.last_seen_at()));
    }
}

#[tokio::test]
async fn the_memory_of_a_departed_user_does_not_depend_on_its_id() {
    let deployment = Deployment::on_one_server(1, Settings::mortal()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    let mut stream = Stream::open(&client, "").await;
    let guests = crowd(&"é".repeat(61), GUESTS / 4);
    client.connect_each(&guests).await;
    departures(&mut stream, guests.len()).await;
    assert_is_little(redis, guests.len()).await;
}

#[tokio::test]
async fn after_the_retention_no_key_remains() {
    let settings = Settings::mortal().with("PRESENCE_LAST_SEEN", "1s");
    let deployment = Deployment::on_one_server(1, settings).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    let mut stream = Stream::open(&client, "").await;
    client.connect_each(&crowd("guest", 100)).await;
    departures(&mut stream, 100).await;
    assert!(!keys_of_last_seen(redis).await.is_empty());
    eventually_true("all last-seen times are gone", async || {
        keys_of_last_seen(redis).await.is_empty()
    })
    .await;
}

/// With a retention this short, a new group of hashes begins every 250 ms.
#[tokio::test]
async fn a_user_that_returns_keeps_its_latest_departure() {
    let settings = Settings::new().with("PRESENCE_LAST_SEEN", "1s");
    let deployment = Deployment::of(1, settings).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    for _ in 0..8 {
        client.connect("alice").await;
        client.disconnect("alice").await;
        let departure = departures(&mut stream, 1).await.remove(0);
        let kept = client.user("alice").await.last_seen_at;
        assert_eq!(kept, Some(departure.last_seen_at()));
        let later = Timestamp::now().plus(Duration::from_millis(150));
        later.pass().await;
    }
}

#[tokio::test]
async fn the_connection_that_was_closed_last_determines_last_seen() {
    let deployment = Deployment::of(1, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    client.connect_as("alice", "phone").await;
    let before = Timestamp::now().plus(Duration::from_millis(300));
    before.pass().await;
    assert!(client.disconnect_as("alice", "phone").await.online);
    let departure = departures(&mut stream, 1).await.remove(0);
    assert!(departure.last_seen_at().millis_after(before) >= -2);
    let kept = client.user("alice").await.last_seen_at;
    assert_eq!(kept, Some(departure.last_seen_at()));
}

#[tokio::test]
async fn instances_with_different_retentions_agree() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let brief = deployment
        .settings()
        .clone()
        .with("PRESENCE_LAST_SEEN", "1h");
    let brief = Instance::start(&brief).await;
    let clients = [deployment.client(), brief.client()];
    let mut stream = Stream::open(&clients[0], "").await;
    for turn in 0..6 {
        clients[turn % 2].connect("alice").await;
        clients[turn % 2].disconnect("alice").await;
        let departure = departures(&mut stream, 1).await.remove(0);
        for client in &clients {
            let kept = client.user("alice").await.last_seen_at;
            assert_eq!(kept, Some(departure.last_seen_at()));
        }
    }
    let seen = deployment.names().key("seen", "alice");
    let generations: usize = deployment.redis().command(&["LLEN", &seen]).await;
    assert_eq!(generations, 2);
}

#[tokio::test]
async fn a_lost_key_loses_only_last_seen_times() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    let leave = async || {
        client.connect("alice").await;
        client.disconnect("alice").await;
    };
    leave().await;
    let mut kept = keys_of_last_seen(redis).await;
    assert_eq!(kept.len(), 2, "a list and a hash");
    // The hash is deleted first, because the list is needed to find it.
    kept.sort_by_key(|key| std::cmp::Reverse(key.len()));
    for lost in kept {
        redis.command::<()>(&["DEL", &lost]).await;
        let forgotten = client.user("alice").await;
        assert!(forgotten.last_seen_at.is_none(), "without {lost}");
        leave().await;
        let kept = client.user("alice").await;
        assert!(kept.last_seen_at.is_some(), "after the loss of {lost}");
    }
    for key in keys_of_last_seen(redis).await {
        let ttl: i64 = redis.command(&["PTTL", &key]).await;
        assert!(ttl > 0, "{key} has no TTL");
    }
}
