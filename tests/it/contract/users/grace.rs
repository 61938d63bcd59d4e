//! Disconnects with a grace period.

use std::time::Duration;

use harness::client::{Answer, Client, Left, send};
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::sse::{Event, Stream};
use harness::timestamp::Timestamp;
use serde_json::{Value, json};

use crate::contract::problems::problem;

async fn leave(client: &Client, user: &str, body: &Value) -> Left {
    let request = client.of_user(user, "disconnect").json(body);
    send(request).await.ok()
}

async fn ping(client: &Client, user: &str, connection: &str) -> Answer {
    send(client.of_connection(user, "ping", connection)).await
}

fn after(connection: &str, grace_ms: u64) -> Value {
    json!({"connectionId": connection, "graceMs": grace_ms})
}

async fn the_connection_counts_until_its_grace_period_ends(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let connected = client.connect_as("alice", "tab").await;
    let before = Timestamp::now();
    let left = leave(&client, "alice", &after("tab", 700)).await;
    let called = Timestamp::now();
    assert!(left.online && !left.became_offline, "{left:?}");
    let leaves_at = left.leaves_at.expect("a grace period");
    assert!(leaves_at.millis_after(before) >= 699 && leaves_at.millis_after(called) <= 701);
    assert!(leaves_at.millis_after(connected.expires_at) < 0);
    let user = client.user("alice").await;
    if Timestamp::now().millis_after(leaves_at) < 0 {
        assert!(user.online, "{user:?}");
        let listed = &user.connections[0];
        assert_eq!(
            (listed.expires_at, listed.leaves_at),
            (leaves_at, Some(leaves_at))
        );
        let pinged = connected.expires_at.later_by(-60_000);
        assert_eq!(listed.last_ping_at, pinged);
    }
    let refused = problem(&ping(&client, "alice", "tab").await, 409);
    assert_eq!(refused.kind, "urn:presence:problem:connection-closed");
    let offline = stream.changes(2).await.pop().expect("two");
    assert_offline(&offline, "alice", "disconnected");
    assert!(offline.timestamp().millis_after(leaves_at) >= 0);
    let seen = offline.last_seen_at();
    assert!(
        seen.millis_after(before) >= -1 && seen.millis_after(called) <= 1,
        "{seen:?}"
    );
    assert_eq!(client.user("alice").await.last_seen_at, Some(seen));
    problem(&ping(&client, "alice", "tab").await, 409);
    assert!(client.connect_as("alice", "tab").await.became_online);
    assert!(!client.ping_as("alice", "tab").await.became_online);
}

async fn a_connect_cancels_the_disconnect_silently(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    for beside in [&[][..], &["phone"]] {
        for connection in beside {
            client.connect_as("alice", connection).await;
        }
        client.connect_as("alice", "tab").await;
        for _ in 0..2 {
            let left = leave(&client, "alice", &after("tab", 300)).await;
            let leaves_at = left.leaves_at.expect("a grace period");
            let again = client.connect_as("alice", "tab").await;
            assert!(!again.became_online || Timestamp::now().millis_after(leaves_at) > 0);
            leaves_at.plus(Duration::from_millis(300)).pass().await;
            assert!(client.ping_as("alice", "tab").await.online);
        }
    }
    // Another connection does not cancel it.
    let left = leave(&client, "alice", &after("tab", 200)).await;
    client.connect_as("alice", "laptop").await;
    left.leaves_at
        .expect("a grace period")
        .plus(Duration::from_millis(50))
        .pass()
        .await;
    assert_eq!(
        client.user("alice").await.connection_ids(),
        ["laptop", "phone"]
    );
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(events.len(), 1, "{events:?}");
}

async fn a_grace_period_never_extends_a_life(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let body = json!({"connectionId": "tab", "ttlMs": 1_000});
    let connect = client.of_user("alice", "connect").json(&body);
    let expires_at: Value = send(connect).await.ok();
    let left = leave(&client, "alice", &after("tab", 60_000)).await;
    let leaves_at = left.leaves_at.expect("a grace period");
    assert_eq!(
        Timestamp::parse(expires_at["expiresAt"].as_str().expect("text")),
        Some(leaves_at)
    );
    // A second disconnect may only shorten it.
    let sooner = leave(&client, "alice", &after("tab", 100)).await;
    assert!(
        sooner
            .leaves_at
            .expect("a grace period")
            .millis_after(leaves_at)
            < 0
    );
    let later = leave(&client, "alice", &after("tab", 60_000)).await;
    assert!(
        later
            .leaves_at
            .is_none_or(|later| Some(later) == sooner.leaves_at)
    );
    // Without a grace period the connection ends at once, and closing a closed one has none.
    client.connect_as("alice", "phone").await;
    leave(&client, "alice", &after("phone", 5_000)).await;
    let left = leave(&client, "alice", &after("phone", 0)).await;
    assert_eq!(left.leaves_at, None);
    assert_eq!(
        leave(&client, "alice", &after("phone", 500))
            .await
            .leaves_at,
        None
    );
}

async fn the_connection_that_ended_last_decides_the_reason(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    for user in ["first", "last"] {
        client.connect_as(user, "tab").await;
        client.connect_as(user, "phone").await;
    }
    leave(&client, "first", &after("tab", 300)).await;
    let short = json!({"connectionId": "phone", "ttlMs": 1_000});
    send(client.of_user("last", "ping").json(&short)).await;
    let left = leave(&client, "last", &after("tab", 1_500)).await;
    let called = left.leaves_at.expect("a grace period").later_by(-1_500);
    let mut gone = stream.changes(4).await.split_off(2);
    gone.sort_by_key(|event| event.user());
    assert_offline(&gone[0], "first", "expired");
    assert_offline(&gone[1], "last", "disconnected");
    assert!(gone[1].last_seen_at().millis_after(called).abs() <= 400);
}

async fn a_connection_that_leaves_gives_up_its_place(store: Store) {
    let settings = Settings::new().with("PRESENCE_USER_CONNECTIONS", "2");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    client.connect_as("alice", "tab").await;
    client.connect_as("alice", "phone").await;
    leave(&client, "alice", &after("tab", 30_000)).await;
    assert_eq!(
        client.user("alice").await.connection_ids(),
        ["phone", "tab"]
    );
    client.connect_as("alice", "laptop").await;
    assert_eq!(
        client.user("alice").await.connection_ids(),
        ["laptop", "phone"]
    );
    let refused = send(client.of_connection("alice", "connect", "tab")).await;
    let refused = problem(&refused, 409);
    assert_eq!(refused.kind, "urn:presence:problem:too-many-connections");
    problem(&ping(&client, "alice", "tab").await, 409);
}

async fn the_settings_have_a_grace_period_and_a_sign_out_has_none(store: Store) {
    let settings = Settings::new().with("PRESENCE_DISCONNECT_GRACE", "20s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    client.connect("alice").await;
    let left = client.disconnect("alice").await;
    assert!(left.online && left.leaves_at.is_some(), "{left:?}");
    let left = client.disconnect_all("alice").await;
    assert!(left.became_offline && left.leaves_at.is_none(), "{left:?}");
    client.connect("bob").await;
    let left = leave(&client, "bob", &json!({"graceMs": 0})).await;
    assert!(left.became_offline && left.leaves_at.is_none(), "{left:?}");
    client.connect("carol").await;
    for (body, named) in [
        (json!({"graceMs": -1}), "from 0 to 60000"),
        (json!({"graceMs": 60_001}), "from 0 to 60000"),
        (json!({"graceMs": 1e300}), "from 0 to 60000"),
        (json!({"all": true, "graceMs": 0}), "graceMs"),
        (json!({"all": true, "graceMs": 500}), "graceMs"),
    ] {
        let refused = send(client.of_user("carol", "disconnect").json(&body)).await;
        let problem = problem(&refused, 400);
        assert_eq!(problem.kind, "urn:presence:problem:invalid-grace", "{body}");
        assert!(problem.detail.contains(named), "{problem:?}");
    }
    let connect = client
        .of_user("carol", "connect")
        .json(&json!({"graceMs": 5}));
    problem(&send(connect).await, 400);
    assert_eq!(client.everyone().await, ["carol"]);
    assert!(client.ping("carol").await.online);
}

/// Checks that the event is the departure of `user` for `reason`.
fn assert_offline(event: &Event, user: &str, reason: &str) {
    let expected = (format!("offline {user}"), reason.to_owned());
    assert_eq!((event.brief(), event.reason()), expected);
}

over_each_protocol!(
    the_connection_counts_until_its_grace_period_ends,
    a_connect_cancels_the_disconnect_silently,
    a_grace_period_never_extends_a_life,
    the_connection_that_ended_last_decides_the_reason,
    a_connection_that_leaves_gives_up_its_place,
    the_settings_have_a_grace_period_and_a_sign_out_has_none,
);
