//! A user whose departure is held has a key again. Nothing is left of the hold.

use harness::client::{Client, Left, crowd, send};
use harness::instance::{Instance, Settings};
use harness::names::Names;
use harness::redis_server::RedisServer;
use harness::serial::run_quietly;
use harness::wait::eventually_true;
use serde_json::json;

use crate::failures::held;

/// More connections than a script can name in one command.
const MANY: usize = 4_500;

/// A step of the clock that is an outage for the grant of these tests. The hold is 9.6 s.
const AHEAD_MS: i64 = 60_000;

/// An instance on a Redis server whose clock can be set.
async fn on_a_clock() -> (RedisServer, Instance) {
    let redis = RedisServer::start_with_clock().await;
    let settings = Settings::new()
        .with("PRESENCE_TTL", "20s")
        .with("PRESENCE_PING_INTERVAL", "8s")
        .with("PRESENCE_USER_CONNECTIONS", "10000")
        .with("REDIS_URL", &redis.url());
    let instance = Instance::start(&settings).await;
    (redis, instance)
}

/// Opens two connections of each user.
async fn connect(client: &Client, users: &[&str]) {
    for user in users {
        for connection in ["phone", "laptop"] {
            client.connect_as(user, connection).await;
        }
    }
}

/// Sets the clock ahead, so that the departures of `users` users are held.
async fn hold(redis: &RedisServer, users: u64) {
    redis.set_clock_ahead(AHEAD_MS);
    eventually_true("all departures are held", async || {
        held(redis).await == users
    })
    .await;
}

#[tokio::test]
async fn a_user_with_thousands_of_held_connections_returns() {
    run_quietly();
    let (redis, instance) = on_a_clock().await;
    let client = instance.client();
    connect(&client, &["bob"]).await;
    // So many connects would take minutes, because each reads all connections of the user.
    let connections = Names::default().of_user("conns", "bob");
    let phone: String = redis.command(&["HGET", &connections, "phone"]).await;
    for tabs in crowd("tab", MANY).chunks(500) {
        let mut write = vec!["HSET", connections.as_str()];
        for tab in tabs {
            write.extend([tab.as_str(), phone.as_str()]);
        }
        redis.command::<()>(&write).await;
    }
    hold(&redis, 1).await;
    assert!(!client.ping_as("bob", "phone").await.became_online);
    assert_eq!(client.user("bob").await.connection_ids(), ["phone"]);
    assert_eq!(held(&redis).await, 0);
    assert_eq!(client.count().await, 1);
}

/// After a step ahead and back, a user is held and has no key, but its connections are alive.
#[tokio::test]
async fn a_disconnect_after_which_a_held_user_is_online_ends_the_hold() {
    run_quietly();
    let (redis, instance) = on_a_clock().await;
    let client = instance.client();
    connect(&client, &["bob", "carol", "dave"]).await;
    client.connect_as("dave", "tablet").await;
    hold(&redis, 3).await;
    redis.set_clock_ahead(0);
    let leaving = json!({"connectionId": "phone", "graceMs": 10_000});
    let leaves = client.of_user("bob", "disconnect").json(&leaving);
    let leaves: Left = send(leaves).await.ok();
    assert!(leaves.online && leaves.leaves_at.is_some(), "{leaves:?}");
    for user in ["carol", "dave"] {
        let left = client.disconnect_as(user, "phone").await;
        assert!(left.online && !left.became_offline, "{left:?}");
    }
    for user in ["bob", "carol", "dave"] {
        assert!(client.user(user).await.online, "{user}");
    }
    assert_eq!(held(&redis).await, 0);
    assert!(client.disconnect_as("carol", "laptop").await.became_offline);
    assert_eq!(client.count().await, 2);
}
