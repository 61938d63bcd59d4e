//! Connections without pings expire.

use std::time::Duration;

use harness::client::crowd;
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::Settings;
use harness::serial::run_quietly;
use harness::sse::{Stream, alternating, briefs};
use harness::timestamp::Timestamp;

/// The time after a deadline at which a read is made, which covers the precision of the clocks.
const JUST_AFTER: Duration = Duration::from_millis(5);

async fn a_user_without_pings_goes_offline(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let connected = client.connect("alice").await;
    assert!(client.user("alice").await.online);
    connected.expires_at.plus(JUST_AFTER).pass().await;
    let user = client.user("alice").await;
    assert!(!user.online && user.connections.is_empty());
}

/// Reads are exact to the millisecond, before and after a sweep.
async fn every_read_is_exact_at_the_deadline(store: Store) {
    run_quietly();
    let settings = Settings::mortal()
        .with("PRESENCE_SWEEP_INTERVAL", "10s")
        .with("PRESENCE_KEYSPACE_EVENTS", "off");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    for round in 0..5 {
        let user = format!("alice-{round}");
        let connected = client.connect(&user).await;
        let connected = connected
            .expires_at
            .max(client.ping(&user).await.expires_at);
        connected.plus(JUST_AFTER).pass().await;
        let asked = [&user];
        let found = tokio::join!(
            client.online_among(&asked),
            client.user(&user),
            client.count(),
            client.page("")
        );
        assert!(found.0.is_empty(), "the batch lookup");
        assert!(!found.1.online, "the user");
        assert_eq!(found.2, 0, "the count");
        assert!(found.3.online.is_empty(), "the list");
    }
}

async fn pings_keep_a_user_online(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let first = client.connect("alice").await;
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let past_the_deadline = first.expires_at.plus(Duration::from_secs(2));
    while Timestamp::now() < past_the_deadline {
        ticks.tick().await;
        assert!(!client.ping("alice").await.became_online);
        assert!(client.user("alice").await.online);
    }
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), ["online alice"]);
}

async fn a_ping_after_expiry_comes_back_online(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    let gone = stream.changes(2).await;
    assert_eq!(briefs(&gone), ["online alice", "offline alice"]);
    let pinged = client.ping("alice").await;
    assert!(pinged.online && pinged.became_online);
    assert!(client.user("alice").await.online);
    assert_eq!(briefs(&stream.changes(1).await), ["online alice"]);
}

/// An expired connection does not keep its user online, whatever the other connections did meanwhile.
async fn each_connection_expires_on_its_own(store: Store) {
    let settings = Settings::mortal().with("PRESENCE_TTL", "3s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let phone = client.connect_as("alice", "phone").await;
    phone.expires_at.less(Duration::from_secs(1)).pass().await;
    let laptop = client.ping_as("alice", "laptop").await;
    assert!(!laptop.became_online);
    phone.expires_at.plus(JUST_AFTER).pass().await;
    assert_eq!(client.user("alice").await.connection_ids(), ["laptop"]);
    let left = client.disconnect_as("alice", "laptop").await;
    assert!(!left.online && left.became_offline, "phone is long gone");
    assert!(!client.user("alice").await.online);
}

/// A ping extends its own connection only.
async fn a_ping_prolongs_no_other_connection(store: Store) {
    let settings = Settings::mortal().with("PRESENCE_TTL", "3s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let phone = client.connect_as("alice", "phone").await;
    let unnamed = client.connect("bob").await;
    phone.expires_at.less(Duration::from_secs(1)).pass().await;
    client.ping("alice").await;
    client.ping_as("bob", "phone").await;
    unnamed
        .expires_at
        .max(phone.expires_at)
        .plus(JUST_AFTER)
        .pass()
        .await;
    assert_eq!(client.user("alice").await.connection_ids(), ["1"]);
    assert_eq!(client.user("bob").await.connection_ids(), ["phone"]);
    assert!(client.disconnect("alice").await.became_offline);
    assert!(client.disconnect_as("bob", "phone").await.became_offline);
}

async fn an_expired_connection_closes_without_effect(store: Store) {
    let settings = Settings::mortal().with("PRESENCE_TTL", "3s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let phone = client.connect_as("alice", "phone").await;
    phone.expires_at.less(Duration::from_secs(1)).pass().await;
    client.ping_as("alice", "laptop").await;
    phone.expires_at.plus(JUST_AFTER).pass().await;
    let left = client.disconnect_as("alice", "phone").await;
    assert!(left.online && !left.became_offline, "laptop lives");
    assert!(client.disconnect_as("alice", "laptop").await.became_offline);
}

/// The deadline of a user is that of its longest-lived connection, also when another connection is closed or opened
/// later.
async fn the_last_connection_to_expire_takes_the_user_offline(store: Store) {
    run_quietly();
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect_as("alice", "phone").await;
    client.connect_as("alice", "tab").await;
    Timestamp::now().plus(Duration::from_secs(1)).pass().await;
    let laptop = client.ping_as("alice", "laptop").await;
    client.disconnect_as("alice", "tab").await;
    let changes = stream.changes(2).await;
    assert_eq!(briefs(&changes), ["online alice", "offline alice"]);
    assert_eq!(changes[1].reason(), "expired");
    let late = changes[1].timestamp().millis_after(laptop.expires_at);
    assert!(
        (0..1_000).contains(&late),
        "{late} ms after the last deadline"
    );
}

/// A ping around the deadline keeps the user online without an event, or brings
/// the user back with an event if the departure was announced. Answers and events agree.
async fn pings_around_the_deadline_agree_with_the_events(store: Store) {
    run_quietly();
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let users = crowd("user", 40);
    let first = client.connect_each(&users).await[0].expires_at;
    let mut when = first.less(Duration::from_millis(40));
    let mut returned = 0;
    for user in &users {
        when = when.plus(Duration::from_millis(6));
        when.pass().await;
        returned += usize::from(client.ping(user).await.became_online);
    }
    let events = stream.events_before_now(&client, "marker").await;
    let online = events
        .iter()
        .filter(|event| event.name == "user.online")
        .count();
    let offline = events.len() - online;
    assert_eq!((online, offline), (40 + returned, returned));
    alternating(&events);
}

on_both_stores!(
    a_user_without_pings_goes_offline,
    every_read_is_exact_at_the_deadline,
    pings_keep_a_user_online,
    a_ping_after_expiry_comes_back_online,
    each_connection_expires_on_its_own,
    a_ping_prolongs_no_other_connection,
    an_expired_connection_closes_without_effect,
    the_last_connection_to_expire_takes_the_user_offline,
    pings_around_the_deadline_agree_with_the_events,
);
