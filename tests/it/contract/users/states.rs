//! Whether a user is away, in answers, events, lookups and snapshots.

use std::time::Duration;

use harness::client::{Client, send};
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::sse::{Event, Stream};
use serde_json::{Value, json};

async fn state(client: &Client, user: &str, verb: &str, connection: &str, away: bool) {
    let body = json!({"connectionId": connection, "away": away});
    let answer: Value = send(client.of_user(user, verb).json(&body)).await.ok();
    assert_eq!(answer["away"], away, "{answer}");
}

/// The names of events, each with `away` where it is present.
fn names(events: &[Event]) -> Vec<String> {
    let name = |event: &Event| match event.json()["away"].as_bool() {
        Some(away) => format!("{} {away}", event.name),
        None => event.name.clone(),
    };
    events.iter().map(name).collect()
}

async fn states_of(client: &Client, users: &[&str]) -> Value {
    let body = json!({"userIds": users, "states": true});
    client.post("/v1/online", &body).await.ok::<Value>()["states"].take()
}

async fn a_user_is_away_while_all_connections_are(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    state(&client, "alice", "connect", "tab", true).await;
    assert!(client.user("alice").await.away);
    state(&client, "alice", "ping", "tab", true).await;
    state(&client, "alice", "ping", "tab", false).await;
    state(&client, "alice", "connect", "phone", true).await;
    let user = client.user("alice").await;
    assert!(!user.away && user.connections.iter().any(|each| each.away));
    assert_eq!(states_of(&client, &["alice"]).await, json!({}));
    state(&client, "alice", "ping", "tab", true).await;
    assert_eq!(
        states_of(&client, &["alice"]).await,
        json!({"alice": {"away": true}})
    );
    // Nothing is merged: without `away`, the connection is not away.
    let pinged = client.ping_as("alice", "phone").await;
    assert_eq!(pinged.away, None);
    client.disconnect_as("alice", "phone").await;
    client.connect_as("alice", "laptop").await;
    client.disconnect_as("alice", "tab").await;
    client.disconnect_as("alice", "laptop").await;
    assert_eq!(states_of(&client, &["alice"]).await, json!({}));
    client.connect("alice").await;
    let events = stream.events_before_now(&client, "marker").await;
    let expected = [
        "user.online true",
        "user.updated false",
        "user.updated true",
        "user.updated false",
        "user.updated true",
        "user.updated false",
        "user.offline",
        "user.online",
    ];
    assert_eq!(names(&events), expected);
    let updated = events[1].json();
    assert_eq!(updated["userId"], "alice");
    assert!(
        updated["status"].is_null() && updated["data"].is_null(),
        "{updated}"
    );
    assert_eq!(updated.as_object().map(|fields| fields.len()), Some(5));
    let online = events[7].json();
    assert_eq!(
        online.as_object().map(|fields| fields.len()),
        Some(2),
        "{online}"
    );
}

async fn a_user_becomes_away_when_the_last_active_connection_expires(store: Store) {
    let settings = Settings::new().with("PRESENCE_TTL", "30s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let short = json!({"connectionId": "tab", "ttlMs": 1_000});
    for user in ["alice", "bob"] {
        state(&client, user, "connect", "phone", true).await;
        send(client.of_user(user, "connect").json(&short)).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    let tab: Value = send(client.of_user("bob", "ping").json(&short)).await.ok();
    // Of a leaving connection, the end counts.
    let events = stream.changes(4).await;
    let expected = ["user.online true", "user.updated false"].repeat(2);
    assert_eq!(names(&events), expected);
    let events = stream.changes(2).await;
    assert_eq!(
        (events[0].user(), events[1].user()),
        ("alice".into(), "bob".into())
    );
    assert_eq!(names(&events), ["user.updated true"; 2]);
    let expires_at = tab["expiresAt"]
        .as_str()
        .and_then(harness::timestamp::Timestamp::parse);
    let late = events[1]
        .timestamp()
        .millis_after(expires_at.expect("a time"));
    assert!((0..5_000).contains(&late), "{late}");
    assert_eq!(client.user("bob").await.connection_ids(), ["phone"]);
    assert!(client.user("bob").await.away);
}

async fn a_connection_that_leaves_counts_with_what_it_stated(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    state(&client, "alice", "connect", "phone", true).await;
    client.connect_as("alice", "tab").await;
    let grace = json!({"connectionId": "tab", "graceMs": 500});
    send(client.of_user("alice", "disconnect").json(&grace)).await;
    assert!(!client.user("alice").await.away);
    let events = stream.changes(3).await;
    assert_eq!(
        names(&events),
        [
            "user.online true",
            "user.updated false",
            "user.updated true"
        ]
    );
    assert!(client.user("alice").await.away);
}

async fn snapshots_have_the_states(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    state(&client, "bob", "connect", "1", true).await;
    state(&client, "gone", "connect", "1", true).await;
    client.disconnect("gone").await;
    for query in ["?snapshot=true", "?snapshot=true&userIds=alice,bob,gone"] {
        let mut stream = Stream::open(&client, query).await;
        let snapshot = stream.next().await;
        let expected = json!({"online": ["alice", "bob"], "states": {"bob": {"away": true}}});
        assert_eq!(snapshot.json(), expected, "{query}");
    }
    let mut stream = Stream::open(&client, "?snapshot=true&userIds=alice").await;
    assert_eq!(stream.next().await.json(), json!({"online": ["alice"]}));
    let answer: Value = client
        .post("/v1/online", &json!({"userIds": ["bob"]}))
        .await
        .ok();
    assert_eq!(answer, json!({"online": ["bob"]}));
}

over_each_protocol!(
    a_user_is_away_while_all_connections_are,
    a_user_becomes_away_when_the_last_active_connection_expires,
    a_connection_that_leaves_counts_with_what_it_stated,
    snapshots_have_the_states,
);
