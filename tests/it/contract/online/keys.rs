//! The keys and commands of the service in a Redis that other programs use too.

use harness::client::crowd;
use harness::deployment::Deployment;
use harness::instance::{Instance, Settings};
use harness::sse::{Stream, briefs};
use harness::wait::eventually_true;

/// The service never blocks Redis and never scans keys of other programs.
#[tokio::test]
async fn neither_keys_nor_scan_is_ever_called() {
    let deployment = Deployment::on_one_server(1, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "?snapshot=true").await;
    client.connect_each(&crowd("user", 50)).await;
    client.disconnect("user-00001").await;
    client.page("?limit=10").await;
    client.everyone().await;
    client.count().await;
    client.online_among(&["user-00002"]).await;
    stream.changes(100).await;
    let redis = deployment.redis();
    for command in ["keys", "scan", "randomkey", "flushall", "flushdb"] {
        assert_eq!(redis.calls_of(command).await, 0, "{command}");
    }
}

#[tokio::test]
async fn keys_of_other_programs_are_neither_shown_nor_changed() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    for key in [
        "user:mallory",
        "session:1",
        "presence",
        "presence2:user:mallory",
    ] {
        redis.command::<()>(&["SET", key, "1"]).await;
    }
    client.connect("alice").await;
    assert_eq!(client.everyone().await, ["alice"]);
    assert_eq!(client.count().await, 1);
    client.disconnect("alice").await;
    for key in [
        "user:mallory",
        "session:1",
        "presence",
        "presence2:user:mallory",
    ] {
        assert_eq!(redis.command::<String>(&["GET", key]).await, "1", "{key}");
    }
}

#[tokio::test]
async fn every_key_begins_with_the_set_prefix() {
    let settings = Settings::mortal().with("PRESENCE_KEY_PREFIX", "acme:");
    let deployment = Deployment::on_one_server(1, settings).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "?snapshot=true").await;
    client.connect_as("alice", "phone").await;
    client.connect_as("alice", "laptop").await;
    client.connect("bob").await;
    client.disconnect("bob").await;
    let keys = deployment
        .redis()
        .command::<Vec<String>>(&["KEYS", "*"])
        .await;
    stream.changes(4).await;
    let later = deployment
        .redis()
        .command::<Vec<String>>(&["KEYS", "*"])
        .await;
    assert!(!keys.is_empty() && !later.is_empty());
    for key in keys.iter().chain(&later) {
        assert!(key.starts_with("acme:"), "{key}");
    }
}

#[tokio::test]
async fn two_prefixes_on_one_redis_are_two_services() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let theirs = deployment
        .settings()
        .clone()
        .with("PRESENCE_KEY_PREFIX", "theirs:");
    let theirs = Instance::start(&theirs).await;
    let mut stream = Stream::open(&deployment.client(), "").await;
    theirs.client().connect("alice").await;
    assert!(!deployment.client().user("alice").await.online);
    assert_eq!(deployment.client().count().await, 0);
    let events = stream
        .events_before_now(&deployment.client(), "marker")
        .await;
    assert!(events.is_empty(), "{events:?}");
    assert!(theirs.client().user("alice").await.online);
}

/// A ping reads the key and extends it, and writes nothing else.
#[tokio::test]
async fn a_ping_of_the_unnamed_connection_only_extends_the_key() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    client.connect("alice").await;
    eventually_true("a sweep has set the number of the grant", async || {
        client.ping("alice").await;
        redis.calls_of("pexpire").await > 0
    })
    .await;
    let calls = async |commands: [&str; 3]| {
        let mut calls = Vec::new();
        for command in commands {
            calls.push(redis.calls_of(command).await);
        }
        calls
    };
    let extended = redis.calls_of("pexpire").await;
    let written = calls(["zadd", "hset", "pexpireat"]).await;
    for _ in 0..50 {
        client.ping("alice").await;
    }
    assert_eq!(redis.calls_of("pexpire").await - extended, 50);
    assert_eq!(calls(["zadd", "hset", "pexpireat"]).await, written);
}

/// A lookup of a thousand ids is one round trip to the store.
#[tokio::test]
async fn a_lookup_is_not_one_call_per_id() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    let reads = async || redis.info("stats", "total_reads_processed").await;
    let before = reads().await;
    for _ in 0..10 {
        client.online_among(&crowd("user", 1_000)).await;
    }
    let reads = reads().await - before;
    assert!(reads < 1_000, "{reads} reads of the socket for 10 lookups");
}

/// The databases of one Redis server share only the channels.
#[tokio::test]
async fn two_databases_of_one_redis_are_two_services() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let other_url = format!("{}5", deployment.redis().url());
    let other = deployment.settings().clone().with("REDIS_URL", &other_url);
    let other = Instance::start(&other).await;
    let (here, there) = (deployment.client(), other.client());
    let mut stream = Stream::open(&here, "?snapshot=true").await;
    assert!(stream.snapshot().await.is_empty());
    for user in crowd("there", 20) {
        there.connect(&user).await;
        here.connect(&user.replace("there", "here")).await;
    }
    let changes = stream.events_before_now(&here, "marker").await;
    assert_eq!(briefs(&changes), crowd("online here", 20));
    assert_eq!(there.count().await, 20);
    assert_eq!(here.count().await, 21);
}
