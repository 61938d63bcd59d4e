//! Instances with different settings on one Redis: the grant of the connection counts.

use std::time::Duration;

use harness::client::Client;
use harness::deployment::Deployment;
use harness::instance::{Instance, Settings};
use harness::serial::run_quietly;
use harness::sse::Stream;
use harness::timestamp::Timestamp;

/// The largest lateness of a departure on a busy machine, in milliseconds.
const LATE_MS: i64 = 1_000;

fn long_lived() -> Settings {
    Settings::new()
        .with("PRESENCE_TTL", "10m")
        .with("PRESENCE_PING_INTERVAL", "1m")
}

/// Instances with a long TTL, and another instance with a short one.
async fn long_and_short() -> (Deployment, Instance) {
    let deployment = Deployment::of(1, long_lived()).await;
    let short = deployment.settings().clone();
    let short = short
        .with("PRESENCE_TTL", "2s")
        .with("PRESENCE_PING_INTERVAL", "500ms");
    let short = Instance::start(&short).await;
    (deployment, short)
}

async fn assert_seen_until_now(client: &Client, user: &str, before: Timestamp) {
    let seen = client.user(user).await.last_seen_at.expect("a time");
    let now = Timestamp::now();
    assert!(seen.millis_after(before) >= -2, "{user} was seen later");
    assert!(now.millis_after(seen) >= -2, "{user} is seen in the future");
}

/// As after a deployment with a shorter TTL.
#[tokio::test]
async fn a_user_who_pings_an_instance_with_a_short_ttl_leaves_soon() {
    run_quietly();
    let (deployment, short) = long_and_short().await;
    let (long, short) = (deployment.client(), short.client());
    let mut stream = Stream::open(&long, "").await;
    for (user, connection) in [("alice", "1"), ("bob", "phone"), ("carol", "1")] {
        long.connect_as(user, connection).await;
    }
    long.connect_as("carol", "laptop").await;
    let alice = short.ping("alice").await;
    let bob = short.ping_as("bob", "phone").await;
    let carol = short.ping("carol").await;
    let events = stream.changes(5).await;
    // Deadlines in one millisecond have no order.
    for user in [alice, bob] {
        let brief = format!("offline {}", user.user_id);
        let event = events[3..].iter().find(|event| event.brief() == brief);
        let event = event.unwrap_or_else(|| panic!("{brief} is not in {events:?}"));
        let late = event.timestamp().millis_after(user.expires_at);
        assert!((0..LATE_MS).contains(&late), "{late} ms late");
        let ttl = user.expires_at.millis_after(event.last_seen_at());
        assert_eq!(ttl, 2_000, "last seen with the ping");
    }
    carol
        .expires_at
        .plus(Duration::from_millis(300))
        .pass()
        .await;
    assert_eq!(long.everyone().await, ["carol"]);
    assert_eq!(long.user("carol").await.connection_ids(), ["laptop"]);
    assert_eq!(short.count().await, 1);
}

/// As after a deployment with a longer TTL.
#[tokio::test]
async fn a_user_who_pings_an_instance_with_a_long_ttl_stays() {
    let (deployment, short) = long_and_short().await;
    let (long, short) = (deployment.client(), short.client());
    let mut stream = Stream::open(&short, "").await;
    let before = Timestamp::now();
    for (user, connection) in [("alice", "1"), ("bob", "phone")] {
        short.connect_as(user, connection).await;
        long.ping_as(user, connection).await;
    }
    let silent = short.connect("silent").await;
    let events = stream.changes(4).await;
    assert_eq!(events[3].brief(), "offline silent");
    silent.expires_at.plus(Duration::from_secs(1)).pass().await;
    assert_eq!(long.everyone().await, ["alice", "bob"]);
    for client in [&long, &short] {
        for user in ["alice", "bob"] {
            assert_seen_until_now(client, user, before).await;
        }
    }
    let left = short.disconnect_as("bob", "phone").await;
    assert!(left.became_offline);
}

#[tokio::test]
async fn no_last_seen_time_is_in_the_future() {
    let (deployment, short) = long_and_short().await;
    let (long, short) = (deployment.client(), short.client());
    let mut stream = Stream::open(&long, "").await;
    let before = Timestamp::now();
    long.connect("alice").await;
    short.connect("bob").await;
    short.connect_as("carol", "phone").await;
    for client in [&long, &short] {
        for user in ["alice", "bob", "carol"] {
            assert_seen_until_now(client, user, before).await;
        }
    }
    // Either instance may announce the departures.
    let last = Timestamp::now();
    for gone in &stream.changes(5).await[3..] {
        let seen = gone.last_seen_at();
        assert!(seen.millis_after(before) >= -2 && last.millis_after(seen) >= -2);
        for client in [&long, &short] {
            let user = client.user(&gone.user()).await;
            assert_eq!(user.last_seen_at, Some(seen));
        }
    }
}
