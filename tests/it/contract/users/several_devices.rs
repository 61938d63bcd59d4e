//! Pings of named connections, and of users with several connections, only extend what Redis has.

use std::time::Duration;

use harness::client::{Client, send};
use harness::deployment::Deployment;
use harness::instance::{Instance, Settings};
use harness::names::Names;
use harness::redis_server::RedisServer;
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;
use serde_json::json;
use tokio::task::JoinSet;

/// Number of times that Redis ran the script for connects and for pings that differ from what it has. Of what these
/// tests do, only this script uses `ZMSCORE`.
async fn connect_calls(redis: &RedisServer) -> u64 {
    redis.calls_of("zmscore").await
}

/// Waits until pings of the unnamed connection are extended, because the first sweep has told the grant.
async fn warm(client: &Client, redis: &RedisServer) {
    client.connect("warm").await;
    eventually_true("pings are extended", async || {
        let before = connect_calls(redis).await;
        client.ping("warm").await;
        connect_calls(redis).await == before
    })
    .await;
}

async fn key(redis: &RedisServer, user: &str) -> Option<String> {
    let key = Names::default().of_user("user", user);
    redis.command(&["GET", &key]).await
}

async fn hashes(redis: &RedisServer, user: &str) -> u64 {
    let key = Names::default().of_user("conns", user);
    redis.command(&["EXISTS", &key]).await
}

/// What only connections stated, as Redis keeps it for the time after the deadline.
async fn records(redis: &RedisServer) -> Vec<String> {
    let mut all = Vec::new();
    let buckets: Vec<String> = redis
        .command(&["KEYS", &Names::default().pattern("deadlines:*")])
        .await;
    for bucket in buckets {
        let found: Vec<String> = redis.command(&["HVALS", &bucket]).await;
        all.extend(found);
    }
    all.sort_unstable();
    all
}

/// Users with one connection, with named connections and with several, as Redis keeps them.
async fn open_connections(client: &Client, redis: &RedisServer) {
    client.connect("alice").await;
    client.connect_as("bob", "phone").await;
    client.connect_as("carol", "phone").await;
    client.connect_as("carol", "laptop").await;
    client.connect("carol").await;
    assert_eq!(key(redis, "alice").await.as_deref(), Some("1"));
    assert_eq!(key(redis, "bob").await.as_deref(), Some("1 phone"));
    assert_eq!(key(redis, "carol").await.as_deref(), Some("*"));
    assert_eq!(hashes(redis, "bob").await, 0);
}

/// Pings the connection. Its deadline is the one in the response, and the key expires with it.
async fn ping_extends(client: &Client, redis: &RedisServer, user: &str, connection: &str) {
    Timestamp::now().plus(Duration::from_millis(2)).pass().await;
    let pinged = client.ping_as(user, connection).await;
    assert!(pinged.online && !pinged.became_online);
    let state = client.user(user).await;
    let mut found = state.connections.iter();
    let found = found.find(|each| each.connection_id == connection);
    let expires_at = found.expect("it is listed").expires_at;
    // The response promises no more than Redis keeps.
    let beyond = expires_at.millis_after(pinged.expires_at);
    assert!(
        (0..5_000).contains(&beyond),
        "{user} {connection}: {beyond}"
    );
    let key = Names::default().of_user("user", user);
    let deadline: u64 = redis.command(&["PEXPIRETIME", &key]).await;
    let deadline = i64::try_from(deadline).expect("a time");
    let epoch = Timestamp::parse("1970-01-01T00:00:00.000Z").expect("a time");
    let latest = expires_at.millis_after(epoch);
    assert_eq!(deadline, latest, "the key expires with the last connection");
}

#[tokio::test]
async fn a_usual_ping_only_extends_the_connection() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    warm(&client, redis).await;
    open_connections(&client, redis).await;
    let long = json!({"connectionId": "phone", "ttlMs": 150_000});
    send(client.of_user("dave", "connect").json(&long)).await;
    assert_eq!(key(redis, "dave").await.as_deref(), Some("1 phone 150000"));
    let away = json!({"away": true});
    for user in ["frank", "gina"] {
        send(client.of_user(user, "connect").json(&away)).await;
    }
    client.connect_as("gina", "phone").await;
    assert_eq!(key(redis, "frank").await.as_deref(), Some("1 1 away"));
    client.connect_as("erin", "laptop").await;
    send(client.of_user("erin", "connect").json(&long)).await;
    let before = connect_calls(redis).await;
    for _ in 0..3 {
        for user in ["frank", "gina"] {
            send(client.of_user(user, "ping").json(&away)).await;
        }
    }
    for user in ["dave", "erin"] {
        for _ in 0..3 {
            send(client.of_user(user, "ping").json(&long)).await;
        }
        let key = Names::default().of_user("user", user);
        let left: u64 = redis.command(&["PTTL", &key]).await;
        assert!((120_000..=150_000).contains(&left), "{user}: {left}");
    }
    assert_eq!(connect_calls(redis).await, before);
    for _ in 0..3 {
        for (user, connection) in [
            ("alice", "1"),
            ("bob", "phone"),
            ("carol", "phone"),
            ("carol", "laptop"),
            ("carol", "1"),
        ] {
            ping_extends(&client, redis, user, connection).await;
        }
    }
    assert_eq!(connect_calls(redis).await, before);
}

#[tokio::test]
async fn another_connection_or_a_changed_grant_uses_the_full_script() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    let settings = deployment.settings().clone().with("PRESENCE_TTL", "90s");
    let other = Instance::start(&settings).await;
    let other = other.client();
    warm(&client, redis).await;
    warm(&other, redis).await;
    client.connect_as("bob", "phone").await;
    // Another grant, with the only connection and then with one of two.
    assert_eq!(other.ping_as("bob", "phone").await.ttl_ms, 90_000);
    assert_eq!(key(redis, "bob").await.as_deref(), Some("2 phone"));
    client.ping_as("bob", "laptop").await;
    let phone = client.ping_as("bob", "phone").await;
    let laptop = other.ping_as("bob", "laptop").await;
    assert!(laptop.expires_at.millis_after(phone.expires_at) > 25_000);
    assert_eq!(
        client.user("bob").await.connection_ids(),
        ["laptop", "phone"]
    );
    // The remaining connection is in the key again.
    client.disconnect_as("bob", "phone").await;
    assert_eq!(key(redis, "bob").await.as_deref(), Some("2 laptop"));
    assert_eq!(hashes(redis, "bob").await, 0);
    // Its deadline decides, not the later one that it had.
    let last = client.ping_as("bob", "laptop").await;
    assert_eq!(
        client.user("bob").await.connections[0].expires_at,
        last.expires_at
    );
}

#[tokio::test]
async fn a_ping_of_a_closed_connection_is_refused_in_every_form() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    warm(&client, redis).await;
    for others in [&[][..], &["laptop"], &["laptop", "1"]] {
        for closed in ["phone", "tab"] {
            for other in others {
                client.connect_as("bob", other).await;
            }
            client.connect_as("bob", closed).await;
            client.ping_as("bob", closed).await;
            client.disconnect_as("bob", closed).await;
            let body = json!({"connectionId": closed});
            let refused = send(client.of_user("bob", "ping").json(&body)).await;
            assert_eq!(refused.status, 409, "{closed} beside {others:?}");
            assert!(!client.user("bob").await.connection_ids().contains(&closed));
        }
        client.disconnect_all("bob").await;
    }
}

#[tokio::test]
async fn the_record_of_an_only_connection_ends_with_the_user() {
    let deployment = Deployment::on_one_server(1, Settings::mortal()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    client.connect_as("bob", "phone").await;
    assert_eq!(records(redis).await, ["1 phone"]);
    client.connect_as("bob", "laptop").await;
    assert!(records(redis).await.is_empty());
    client.disconnect_as("bob", "phone").await;
    assert_eq!(records(redis).await, ["1 laptop"]);
    client.disconnect_as("bob", "laptop").await;
    assert!(records(redis).await.is_empty());
    client.connect_as("bob", "phone").await;
    client.connect("carol").await;
    assert_eq!(records(redis).await, ["1 phone"]);
    eventually_true("both have expired", async || client.count().await == 0).await;
    eventually_true("the record is removed", async || {
        records(redis).await.is_empty()
    })
    .await;
}

/// A key of another type can only come from another program.
#[tokio::test]
async fn a_call_that_fails_in_redis_fails_no_call_beside_it() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    let marks = Names::default().of_user("closed", "broken");
    redis.command::<()>(&["SET", &marks, "x"]).await;
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let client = client.clone();
        calls.spawn(async move {
            let user = match number % 10 {
                0 => "broken".to_owned(),
                _ => format!("user-{number}"),
            };
            let connected = send(client.of_user(&user, "connect")).await.status;
            let disconnected = send(client.of_user(&user, "disconnect")).await.status;
            (user, connected.as_u16(), disconnected.as_u16())
        });
    }
    for (user, connected, disconnected) in calls.join_all().await {
        let expected = if user == "broken" { 500 } else { 200 };
        assert_eq!((connected, disconnected), (expected, expected), "{user}");
    }
    assert_eq!(client.count().await, 0);
}
