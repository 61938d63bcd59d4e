//! `lastSeenAt`: the last moment the user was known to be alive.

use std::time::Duration;

use harness::client::User;
use harness::cluster::{Cluster, Store, on_both_stores};
use harness::instance::Settings;
use harness::sse::Stream;
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;

/// Rounding to milliseconds, on either side.
const ROUNDING_MS: i64 = 2;

fn assert_seen_between(user: &User, from: Timestamp, to: Timestamp) {
    let seen = user.last_seen_at.expect("it was seen");
    let (after, before) = (seen.millis_after(from), to.millis_after(seen));
    assert!(
        after >= -ROUNDING_MS,
        "seen {after} ms after its sign of life"
    );
    assert!(before >= -ROUNDING_MS, "seen {} ms in the future", -before);
}

async fn while_online_it_is_at_least_the_last_ping(store: Store) {
    let cluster = Cluster::start(store).await;
    let client = cluster.client();
    client.connect("alice").await;
    for _ in 0..3 {
        let before = Timestamp::now().plus(Duration::from_millis(20));
        before.pass().await;
        client.ping("alice").await;
        assert_seen_between(&client.user("alice").await, before, Timestamp::now());
    }
}

async fn it_is_of_the_connection_that_pinged_last(store: Store) {
    let cluster = Cluster::start(store).await;
    let client = cluster.client();
    client.connect_as("alice", "phone").await;
    client.connect_as("alice", "laptop").await;
    let before = Timestamp::now().plus(Duration::from_millis(20));
    before.pass().await;
    client.ping_as("alice", "phone").await;
    assert_seen_between(&client.user("alice").await, before, Timestamp::now());
}

async fn after_a_disconnect_it_is_kept(store: Store) {
    let cluster = Cluster::start(store).await;
    let client = cluster.client();
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

/// Also when the only call since the deadline was set was a ping.
async fn after_an_expiry_it_is_the_last_ping(store: Store) {
    let cluster = Cluster::with(store, Settings::mortal()).await;
    let client = cluster.client();
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

async fn at_the_deadline_it_is_not_lost(store: Store) {
    let cluster = Cluster::with(store, Settings::mortal()).await;
    let client = cluster.client();
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

async fn it_is_forgotten_after_the_retention(store: Store) {
    let settings = Settings::new().with("PRESENCE_LAST_SEEN", "1s");
    let cluster = Cluster::with(store, settings).await;
    let client = cluster.client();
    client.connect("alice").await;
    client.disconnect("alice").await;
    assert!(client.user("alice").await.last_seen_at.is_some());
    eventually_true("lastSeenAt is forgotten", async || {
        client.user("alice").await.last_seen_at.is_none()
    })
    .await;
}

async fn it_is_never_kept_where_it_is_switched_off(store: Store) {
    let settings = Settings::new().with("PRESENCE_LAST_SEEN", "0s");
    let cluster = Cluster::with(store, settings).await;
    let client = cluster.client();
    client.connect("alice").await;
    client.disconnect("alice").await;
    assert_eq!(client.user("alice").await.last_seen_at, None);
}

on_both_stores!(
    while_online_it_is_at_least_the_last_ping,
    it_is_of_the_connection_that_pinged_last,
    after_a_disconnect_it_is_kept,
    after_an_expiry_it_is_the_last_ping,
    at_the_deadline_it_is_not_lost,
    it_is_forgotten_after_the_retention,
    it_is_never_kept_where_it_is_switched_off,
);
