//! Connect, ping, disconnect and the state of one user.

mod connections;
mod departed;
mod expiry;
mod grace;
mod last_seen;
mod lifetimes;
mod ping_targets;
mod several_devices;
mod states;
mod statuses;

use std::time::Duration;

use harness::client::{Alive, crowd, send};
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::timestamp::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const TTL: Duration = Duration::from_secs(60);

/// The field names of an answer, sorted.
fn fields(answer: &Value) -> Vec<&str> {
    let fields = answer.as_object().expect("an object").keys();
    let mut fields: Vec<&str> = fields.map(String::as_str).collect();
    fields.sort_unstable();
    fields
}

async fn connect_answers_the_documented_fields(store: Store) {
    let deployment = Deployment::start(store).await;
    for (verb, became_online) in [("connect", true), ("ping", false)] {
        let answer = send(deployment.client().of_user("alice", verb)).await;
        assert_eq!(answer.header("content-type"), "application/json");
        let mut answer: Value = answer.ok();
        let expires_at = answer["expiresAt"].take();
        let expires_at = Timestamp::parse(expires_at.as_str().expect("a string"));
        assert!(expires_at.is_some(), "{verb}");
        let expected = json!({
            "userId": "alice", "connectionId": "1", "online": true, "becameOnline": became_online,
            "expiresAt": null, "ttlMs": 60_000, "pingIntervalMs": 25_000,
        });
        assert_eq!(answer, expected, "{verb}");
    }
}

async fn disconnect_answers_the_documented_fields(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    for became_offline in [true, false] {
        let answer: Value = send(client.of_user("alice", "disconnect")).await.ok();
        let expected = json!({
            "userId": "alice", "connectionId": "1", "online": false, "becameOffline": became_offline,
        });
        assert_eq!(answer, expected);
    }
}

async fn a_user_has_the_documented_fields(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let connected = client.connect_as("alice", "phone-1").await;
    let answer: Value = client.get("/v1/users/alice").await.ok();
    assert_eq!(
        fields(&answer),
        [
            "away",
            "connections",
            "lastSeenAt",
            "online",
            "status",
            "userId"
        ]
    );
    assert_eq!(
        fields(&answer["connections"][0]),
        [
            "away",
            "connectionId",
            "expiresAt",
            "lastPingAt",
            "leavesAt",
            "ttlMs"
        ]
    );
    let user = client.user("alice").await;
    assert!(user.online);
    assert_eq!(user.user_id, "alice");
    assert_eq!(user.connection_ids(), ["phone-1"]);
    assert_eq!(user.connections[0].expires_at, connected.expires_at);
}

async fn an_unknown_user_is_offline_and_not_404(store: Store) {
    let deployment = Deployment::start(store).await;
    let answer: Value = deployment.client().get("/v1/users/nobody").await.ok();
    let expected = json!({"userId": "nobody", "online": false, "lastSeenAt": null, "away": false, "status": null, "connections": []});
    assert_eq!(answer, expected);
}

async fn a_connection_expires_one_ttl_from_now(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let check = |before: Timestamp, answer: &Alive| {
        let expires_at = answer.expires_at;
        let after = Timestamp::now();
        assert!(
            expires_at.millis_after(before.plus(TTL)) >= -1,
            "{answer:?}"
        );
        assert!(expires_at.millis_after(after.plus(TTL)) <= 1, "{answer:?}");
    };
    let before = Timestamp::now();
    check(before, &client.connect("alice").await);
    let before = Timestamp::now();
    check(before, &client.ping("alice").await);
    let before = Timestamp::now();
    check(before, &client.connect_as("alice", "second").await);
    let before = Timestamp::now();
    check(before, &client.ping_as("alice", "second").await);
}

async fn answers_have_the_configured_ttl_and_ping_interval(store: Store) {
    let settings = Settings::new()
        .with("PRESENCE_TTL", "90s")
        .with("PRESENCE_PING_INTERVAL", "1500ms");
    let deployment = Deployment::with(store, settings).await;
    let before = Timestamp::now();
    let connected = deployment.client().connect("alice").await;
    assert_eq!(
        (connected.ttl_ms, connected.ping_interval_ms),
        (90_000, 1_500)
    );
    assert!(connected.expires_at.millis_after(before) >= 89_999);
}

async fn only_the_first_connect_is_a_transition(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    assert!(client.connect("alice").await.became_online);
    assert!(!client.connect("alice").await.became_online);
    assert!(!client.ping("alice").await.became_online);
    assert!(!client.connect_as("alice", "phone").await.became_online);
    assert!(!client.ping_as("alice", "tablet").await.became_online);
}

async fn a_ping_without_a_connect_brings_the_user_online(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let pinged = client.ping("alice").await;
    assert!(pinged.online && pinged.became_online);
    assert!(client.user("alice").await.online);
}

async fn a_user_can_connect_and_disconnect_repeatedly(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for _ in 0..5 {
        assert!(client.connect("alice").await.became_online);
        assert!(client.user("alice").await.online);
        assert!(client.disconnect("alice").await.became_offline);
        let user = client.user("alice").await;
        assert!(!user.online && user.connections.is_empty());
    }
}

async fn exactly_one_of_many_simultaneous_callers_gets_the_transition(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for round in 0..20 {
        let user = format!("alice-{round}");
        let mut connects = JoinSet::new();
        let mut disconnects = JoinSet::new();
        for caller in 0..12 {
            let (client, user) = (client.clone(), user.clone());
            let connection = format!("c{}", caller % 3);
            connects.spawn(async move { client.connect_as(&user, &connection).await });
        }
        let connects = connects.join_all().await;
        assert_eq!(connects.iter().filter(|each| each.became_online).count(), 1);
        for _ in 0..12 {
            let (client, user) = (client.clone(), user.clone());
            disconnects.spawn(async move { client.disconnect_all(&user).await });
        }
        let disconnects = disconnects.join_all().await;
        let told = disconnects.iter().filter(|each| each.became_offline);
        assert_eq!(told.count(), 1);
    }
}

async fn ids_are_answered_percent_decoded(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for user in [
        "a/b",
        "äöü €",
        "50%25",
        "a,b",
        "with space",
        "🦀",
        "1",
        "*",
        "\"quoted\\",
        "a?b#c",
        "x:y:z",
    ] {
        assert_eq!(client.connect(user).await.user_id, user);
        let found = client.user(user).await;
        assert_eq!(found.user_id, user);
        assert!(found.online, "{user}");
        assert_eq!(client.online_among(&[user]).await, [user]);
        let left = client.disconnect(user).await;
        assert_eq!(left.user_id, user);
        assert!(left.became_offline, "{user}");
    }
}

async fn ids_differ_by_every_byte(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    for other in ["Alice", "alice ", "alic", "alice:1", "alicé", "alice*"] {
        assert!(!client.user(other).await.online, "{other}");
    }
}

async fn reads_after_an_answer_show_its_effect(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for user in crowd("user", 50) {
        client.connect(&user).await;
        assert_eq!(client.online_among(&[&user]).await, [&*user]);
        client.disconnect(&user).await;
        assert!(client.online_among(&[&user]).await.is_empty());
    }
}

over_each_protocol!(
    connect_answers_the_documented_fields,
    disconnect_answers_the_documented_fields,
    a_user_has_the_documented_fields,
    an_unknown_user_is_offline_and_not_404,
    a_connection_expires_one_ttl_from_now,
    answers_have_the_configured_ttl_and_ping_interval,
    only_the_first_connect_is_a_transition,
    a_ping_without_a_connect_brings_the_user_online,
    a_user_can_connect_and_disconnect_repeatedly,
    exactly_one_of_many_simultaneous_callers_gets_the_transition,
    ids_are_answered_percent_decoded,
    ids_differ_by_every_byte,
    reads_after_an_answer_show_its_effect,
);
