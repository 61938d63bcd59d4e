//! Connections with a TTL of their own.

use std::time::Duration;

use harness::client::{Alive, Client, send};
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::sse::{Event, Stream};
use harness::timestamp::Timestamp;
use serde_json::{Value, json};

use crate::contract::problems::problem;

async fn call(client: &Client, user: &str, verb: &str, body: &Value) -> Alive {
    send(client.of_user(user, verb).json(body)).await.ok()
}

async fn a_call_states_the_ttl_and_gets_an_interval_of_the_same_ratio(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let (long, short) = (json!({"ttlMs": 120_000}), json!({"ttlMs": 1_001}));
    for (verb, body, expected) in [
        ("connect", &long, (120_000, 50_000)),
        ("ping", &long, (120_000, 50_000)),
        ("ping", &long, (120_000, 50_000)),
        ("ping", &short, (1_001, 417)),
        ("connect", &json!({"ttlMs": 600_000}), (600_000, 250_000)),
        // Each call states everything.
        ("ping", &json!({}), (60_000, 25_000)),
        ("ping", &json!({"ttlMs": 60_000}), (60_000, 25_000)),
        ("ping", &long, (120_000, 50_000)),
        ("connect", &json!({"ttlMs": null}), (60_000, 25_000)),
    ] {
        let before = Timestamp::now();
        let answer = call(&client, "alice", verb, body).await;
        assert_eq!((answer.ttl_ms, answer.ping_interval_ms), expected, "{body}");
        let lives = answer.expires_at.millis_after(before);
        let ttl = i64::try_from(answer.ttl_ms).expect("small");
        assert!((ttl - 1..ttl + 5_000).contains(&lives), "{body}: {lives}");
        let listed = client.user("alice").await.connections.remove(0);
        let expires_at = listed.expires_at;
        assert!((0..5_000).contains(&expires_at.millis_after(answer.expires_at)));
        assert_eq!(listed.ttl_ms, answer.ttl_ms);
        assert_eq!(listed.last_ping_at, expires_at.later_by(-ttl));
        assert!(!listed.away && listed.leaves_at.is_none());
    }
}

async fn each_connection_lives_for_its_own_ttl(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let short = json!({"connectionId": "tab", "ttlMs": 1_000});
    let long = json!({"connectionId": "phone", "ttlMs": 5_000});
    let alone = call(&client, "alone", "connect", &short).await;
    call(&client, "alice", "connect", &short).await;
    call(&client, "alice", "connect", &long).await;
    let phone = call(&client, "bob", "connect", &long).await;
    let event = stream.changes(4).await.pop().expect("four");
    assert_offline(&event, "alone", "expired");
    let ttl = Duration::from_secs(1);
    assert_eq!(event.last_seen_at(), alone.expires_at.less(ttl));
    alone.expires_at.plus(Duration::from_secs(2)).pass().await;
    assert_eq!(client.user("alice").await.connection_ids(), ["phone"]);
    assert_eq!(client.online_among(&["alice", "bob"]).await.len(), 2);
    // Without a TTL, the phone lives as long as the settings say.
    let pinged = client.ping_as("bob", "phone").await;
    assert_eq!((phone.ttl_ms, pinged.ttl_ms), (5_000, 2_000));
    let mut gone: Vec<_> = stream.changes(2).await;
    gone.sort_by_key(|event| event.user());
    assert_offline(&gone[0], "alice", "expired");
    assert_offline(&gone[1], "bob", "expired");
    assert!(gone[1].timestamp().millis_after(pinged.expires_at) >= 0);
}

async fn a_ttl_out_of_bounds_is_refused_and_changes_nothing(store: Store) {
    let settings = Settings::new().with("PRESENCE_TTL_MAX", "2m");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    for (ttl, kind) in [
        (json!(999), "invalid-ttl"),
        (json!(0), "invalid-ttl"),
        (json!(-60_000), "invalid-ttl"),
        (json!(120_001), "invalid-ttl"),
        (json!(1e300), "invalid-ttl"),
        (json!(1_000.5), "invalid-json"),
        (json!("60000"), "invalid-json"),
        (json!([60_000]), "invalid-json"),
        (json!(true), "invalid-json"),
    ] {
        for verb in ["connect", "ping"] {
            let body = json!({"ttlMs": ttl});
            let refused = send(client.of_user("alice", verb).json(&body)).await;
            let problem = problem(&refused, 400);
            assert_eq!(problem.kind, format!("urn:presence:problem:{kind}"));
            assert!(problem.detail.starts_with("ttlMs: "), "{problem:?}");
            let has_bounds = problem.detail.contains("from 1000 to 120000");
            assert_eq!(has_bounds, kind == "invalid-ttl", "{problem:?}");
        }
    }
    let closing = client.of_user("alice", "disconnect");
    let refused = send(closing.json(&json!({"ttlMs": 60_000}))).await;
    assert!(problem(&refused, 400).detail.contains("ttlMs"));
    assert_eq!(client.count().await, 0);
    assert_eq!(client.user("alice").await.last_seen_at, None);
}

async fn a_ttl_of_the_settings_beyond_the_maximum_is_the_maximum(store: Store) {
    let settings = Settings::new()
        .with("PRESENCE_TTL", "20m")
        .with("PRESENCE_TTL_MAX", "1m");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    assert_eq!(client.connect("alice").await.ttl_ms, 1_200_000);
    let most = json!({"ttlMs": 1_200_000});
    assert_eq!(
        call(&client, "alice", "ping", &most).await.ttl_ms,
        1_200_000
    );
    let more = client
        .of_user("alice", "ping")
        .json(&json!({"ttlMs": 1_200_001}));
    problem(&send(more).await, 400);
}

/// Checks that the event is the departure of `user` for `reason`.
fn assert_offline(event: &Event, user: &str, reason: &str) {
    let expected = (format!("offline {user}"), reason.to_owned());
    assert_eq!((event.brief(), event.reason()), expected);
}

over_each_protocol!(
    a_call_states_the_ttl_and_gets_an_interval_of_the_same_ratio,
    each_connection_lives_for_its_own_ttl,
    a_ttl_out_of_bounds_is_refused_and_changes_nothing,
    a_ttl_of_the_settings_beyond_the_maximum_is_the_maximum,
);
