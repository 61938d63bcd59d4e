//! The status that a user states about itself.

use harness::client::{Answer, Client, send};
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::sse::Stream;
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::problems::problem;

async fn set(client: &Client, user: &str, body: &Value) -> Answer {
    let path = format!("/v1/users/{user}/status");
    send(client.request(Method::PUT, &path).json(body)).await
}

async fn clear(client: &Client, user: &str) -> Value {
    let path = format!("/v1/users/{user}/status");
    send(client.request(Method::DELETE, &path)).await.ok()
}

async fn a_status_is_set_read_replaced_and_cleared(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    let seen = client.user("alice").await.last_seen_at;
    let data = json!({"text": "In a \"meeting\"\n\u{1f}", "until": 5.5});
    let answer: Value = set(&client, "alice", &json!({"status": "dnd", "data": data}))
        .await
        .ok();
    let expected = json!({"userId": "alice", "status": "dnd", "data": data, "expiresAt": null});
    assert_eq!(answer, expected);
    let user = client.user("alice").await;
    assert_eq!(user.last_seen_at, seen, "a status is no sign of life");
    assert_eq!(
        user.status,
        Some(json!({"status": "dnd", "data": data, "expiresAt": null}))
    );
    // The same status again is no change.
    set(&client, "alice", &json!({"status": "dnd", "data": data})).await;
    let body = json!({"connectionId": "1", "away": true});
    send(client.of_user("alice", "ping").json(&body)).await;
    let before = Timestamp::now();
    let answer: Value = set(
        &client,
        "alice",
        &json!({"status": "busy", "ttlMs": 60_000}),
    )
    .await
    .ok();
    let ends = Timestamp::parse(answer["expiresAt"].as_str().expect("a time")).expect("a time");
    assert!((59_000..70_000).contains(&ends.millis_after(before)));
    let states = json!({"userIds": ["alice", "bob"], "states": true});
    let found: Value = client.post("/v1/online", &states).await.ok();
    let state = json!({"alice": {"away": true, "status": "busy"}});
    assert_eq!(found, json!({"online": ["alice"], "states": state}));
    let mut snapshot = Stream::open(&client, "?snapshot=true").await;
    assert_eq!(snapshot.next().await.json()["states"], state);
    let nothing = json!({"userId": "alice", "status": null, "data": null, "expiresAt": null});
    assert_eq!(clear(&client, "alice").await, nothing);
    assert_eq!(clear(&client, "alice").await, nothing);
    let events = stream.events_before_now(&client, "marker").await;
    let shown = events[1..].iter().map(|event| {
        assert_eq!(event.name, "user.updated");
        let json = event.json();
        (
            json["away"].clone(),
            json["status"].clone(),
            json["data"].clone(),
        )
    });
    let expected = [
        (json!(false), json!("dnd"), data.clone()),
        (json!(true), json!("dnd"), data),
        (json!(true), json!("busy"), Value::Null),
        (json!(true), Value::Null, Value::Null),
    ];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

async fn a_status_outlives_the_connection_and_ends_by_itself(store: Store) {
    let settings = Settings::new().with("PRESENCE_LAST_SEEN", "3s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    // Set while offline, carried by user.online, ended while online.
    set(&client, "alice", &json!({"status": "dnd", "ttlMs": 1_500})).await;
    assert!(client.user("alice").await.status.is_some());
    assert_eq!(client.user("alice").await.last_seen_at, None);
    client.connect("alice").await;
    // Without an end, it is forgotten with the last-seen time of an offline user.
    set(&client, "bob", &json!({"status": "on-leave", "data": {}})).await;
    client.connect("bob").await;
    client.disconnect("bob").await;
    // Ended while offline.
    set(&client, "carol", &json!({"status": "dnd", "ttlMs": 1_000})).await;
    let events = stream.changes(4).await;
    let online = events[0].json();
    assert_eq!(
        (&online["status"], online.get("away")),
        (&json!("dnd"), None)
    );
    let online = events[1].json();
    assert_eq!(
        (&online["status"], &online["data"]),
        (&json!("on-leave"), &json!({}))
    );
    assert_eq!(events[3].name, "user.updated");
    assert!(events[3].json()["status"].is_null());
    assert_eq!(client.user("alice").await.status, None);
    eventually_true("the status has ended", async || {
        client.user("carol").await.status.is_none()
    })
    .await;
    client.connect("carol").await;
    let events = stream.events_before_now(&client, "marker").await;
    assert!(events[0].json().get("status").is_none(), "{events:?}");
    eventually_true("the status is forgotten", async || {
        client.user("bob").await.status.is_none()
    })
    .await;
}

/// The status gets this problem, and the detail has the text `named`.
async fn assert_refused(client: &Client, body: &Value, kind: &str, named: &str) {
    let problem = problem(&set(client, "alice", body).await, 400);
    let kind = format!("urn:presence:problem:{kind}");
    assert_eq!(problem.kind, kind, "{body}");
    assert!(problem.detail.contains(named), "{body}: {problem:?}");
}

async fn an_invalid_status_is_refused_and_changes_nothing(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let long = json!({"a": "x".repeat(1_024)});
    for (body, named) in [
        (json!({}), "status: "),
        (json!({"status": null}), "status: "),
        (json!({"status": ""}), "1 to 32"),
        (json!({"status": "Do not disturb"}), "status: "),
        (json!({"status": "x".repeat(33)}), "1 to 32"),
        (json!({"status": "dnd", "data": []}), "data: "),
        (json!({"status": "dnd", "data": "x"}), "data: "),
        (json!({"status": "dnd", "data": long}), "1024"),
        (
            json!({"status": "dnd", "ttlMs": 999}),
            "from 1000 to 2592000000",
        ),
        (
            json!({"status": "dnd", "ttlMs": 2_592_000_001_u64}),
            "ttlMs: ",
        ),
        (json!({"status": "dnd", "ttlMs": -1}), "ttlMs: "),
    ] {
        assert_refused(&client, &body, "invalid-status", named).await;
    }
    for (body, named) in [
        (json!({"status": 5}), "status: "),
        (json!({"status": "dnd", "away": true}), "away"),
    ] {
        assert_refused(&client, &body, "invalid-json", named).await;
    }
    let without_type = client.request(Method::PUT, "/v1/users/alice/status");
    problem(&send(without_type.body("{\"status\":\"dnd\"}")).await, 415);
    assert_eq!(client.user("alice").await.status, None);
}

over_each_protocol!(
    a_status_is_set_read_replaced_and_cleared,
    a_status_outlives_the_connection_and_ends_by_itself,
    an_invalid_status_is_refused_and_changes_nothing,
);
