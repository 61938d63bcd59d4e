//! `lastSeenAt`: the last moment at which the user was known to be alive.

use std::time::Duration;

use harness::client::User;
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::sse::Stream;
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;

/// The rounding to milliseconds, on both sides.
const ROUNDING_MS: i64 = 2;

fn assert_seen_between(user: &User, from: Timestamp, to: Timestamp) {
    let seen = user.last_seen_at.expect("a time");
    let (after, before) = (seen.millis_after(from), to.millis_after(seen));
    assert!(
        after >= -ROUNDING_MS,
        "seen {after} ms after its sign of life"
    );
    assert!(before >= -ROUNDING_MS, "seen {} ms in the future", -before);
}

async fn last_seen_of_an_online_user_is_at_least_the_last_ping(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    for _ in 0..3 {
        let before = Timestamp::now().plus(Duration::from_millis(20));
        before.pass().await;
        client.ping("alice").await;
        assert_seen_between(&client.user("alice").await, before, Timestamp::now());
    }
}

async fn last_seen_is_the_last_ping_of_any_connection(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect_as("alice", "phone").await;
    client.connect_as("alice", "laptop").await;
    let before = Timestamp::now().plus(Duration::from_millis(20));
    before.pass().await;
    client.ping_as("alice", "phone").await;
    assert_seen_between(&client.user("alice").await, before, Timestamp::now());
}

async fn last_seen_is_kept_after_a_disconnect(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let before = Timestamp::now();
    client.connect("alice").await;
    client.disconnect("alice").await;
    let after = Timestamp::now();
    let user = client.user("alice").await;
    assert!(!user.online);
    assert_seen_between(&user, before, after);
    let told = stream.changes(2).await[1].last_seen_at();
    assert_eq!(
        user.last_seen_at,
        Some(told),
        "the event and the user agree"
    );
}

/// This also holds when a ping was the only call since the connect.
async fn last_seen_after_an_expiry_is_the_last_ping(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    let before = Timestamp::now().plus(Duration::from_millis(700));
    before.pass().await;
    client.ping("alice").await;
    let after = Timestamp::now();
    let told = stream.changes(2).await[1].last_seen_at();
    let user = client.user("alice").await;
    assert_seen_between(&user, before, after);
    assert_eq!(
        user.last_seen_at,
        Some(told),
        "the event and the user agree"
    );
}

async fn last_seen_is_not_lost_at_the_deadline(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let before = Timestamp::now();
    let connected = client.connect("alice").await;
    let after = Timestamp::now();
    connected
        .expires_at
        .plus(Duration::from_millis(3))
        .pass()
        .await;
    let user = client.user("alice").await;
    assert!(!user.online);
    assert_seen_between(&user, before, after);
}

async fn last_seen_is_forgotten_after_the_retention(store: Store) {
    let settings = Settings::new().with("PRESENCE_LAST_SEEN", "1s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    client.connect("alice").await;
    client.disconnect("alice").await;
    assert!(client.user("alice").await.last_seen_at.is_some());
    eventually_true("lastSeenAt is forgotten", async || {
        client.user("alice").await.last_seen_at.is_none()
    })
    .await;
}

async fn last_seen_is_not_kept_without_a_retention(store: Store) {
    let settings = Settings::new().with("PRESENCE_LAST_SEEN", "0s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    client.connect("alice").await;
    client.disconnect("alice").await;
    assert_eq!(client.user("alice").await.last_seen_at, None);
}

over_each_protocol!(
    last_seen_of_an_online_user_is_at_least_the_last_ping,
    last_seen_is_the_last_ping_of_any_connection,
    last_seen_is_kept_after_a_disconnect,
    last_seen_after_an_expiry_is_the_last_ping,
    last_seen_is_not_lost_at_the_deadline,
    last_seen_is_forgotten_after_the_retention,
    last_seen_is_not_kept_without_a_retention,
);
