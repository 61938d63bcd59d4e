//! A key of the service is lost, by an operator or by eviction.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::client::send;
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::serial::run_quietly;
use harness::sse::{Stream, alternating, briefs};
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;
use serde_json::{Value, json};

use crate::failures::announced;

/// The keys that do not belong to one user.
const KEYS: [&str; 12] = [
    "epoch",
    "grants",
    "swept",
    "outages",
    "held",
    "shortened",
    "recheck",
    "events",
    "seen",
    "states",
    "changes",
    "deadlines",
];

const USERS: [(&str, &str); 3] = [("alice", "1"), ("bob", "phone"), ("carol", "1")];

#[tokio::test]
async fn a_lost_index_resets_streams_and_users_return_with_their_next_ping() {
    let deployment = Deployment::of(2, Settings::mortal()).await;
    let client = deployment.client();
    for (user, connection) in USERS {
        client.connect_as(user, connection).await;
    }
    client.connect_as("carol", "laptop").await;
    let mut streams = Vec::new();
    for client in deployment.clients() {
        streams.push(Stream::open(&client, "").await);
    }
    deployment.sum("DEL", "deadlines", &[]).await;
    for stream in &mut streams {
        let reset = stream.next().await;
        assert_eq!(reset.name, "presence.reset");
        assert_eq!(reset.json()["reason"], "data-lost");
    }
    for round in 0..3 {
        for (user, connection) in USERS {
            let back = client.ping_as(user, connection).await;
            assert_eq!(back.became_online, round == 0, "{user}");
        }
    }
    assert_eq!(client.everyone().await, ["alice", "bob", "carol"]);
    assert_eq!(client.count().await, 3);
    for stream in &mut streams {
        let events = stream.changes(6).await;
        for (user, history) in alternating(&events) {
            assert_eq!(history, ["online", "expired"], "{user}");
        }
        assert_eq!(
            briefs(&events[..3]),
            ["online alice", "online bob", "online carol"]
        );
    }
}

#[tokio::test]
async fn the_service_recovers_within_a_ttl_from_the_loss_of_any_key() {
    run_quietly();
    let deployment = Deployment::of(2, Settings::mortal()).await;
    let clients = deployment.clients();
    for key in KEYS {
        for (user, connection) in USERS {
            clients[0].connect_as(user, connection).await;
        }
        deployment.sum("DEL", key, &[]).await;
        // By then a sweep has restored what it can.
        let soon = Timestamp::now().plus(Duration::from_millis(400));
        soon.pass().await;
        for client in &clients {
            for (user, connection) in USERS {
                client.ping_as(user, connection).await;
            }
            let everyone = client.everyone().await;
            assert_eq!(everyone, ["alice", "bob", "carol"], "without {key}");
            assert_eq!(client.count().await, 3, "without {key}");
        }
        let last = Timestamp::now();
        eventually_true("all have left", async || announced(&deployment).await == 0).await;
        let took = Timestamp::now().millis_after(last);
        assert!(took < 3_500, "{took} ms without {key}");
        assert_eq!(clients[0].count().await, 0, "without {key}");
    }
}

#[tokio::test]
async fn after_a_loss_of_the_states_streams_begin_anew_and_users_are_away_as_before() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    for (user, connection) in [("alice", "1"), ("bob", "tab"), ("bob", "phone")] {
        let body = json!({"connectionId": connection, "away": true});
        send(client.of_user(user, "connect").json(&body)).await;
    }
    client.connect("carol").await;
    let mut stream = Stream::open(&client, "").await;
    let marks = deployment.names().all("states").len() as u64;
    eventually_true("a sweep has marked the states", async || {
        deployment.sum("HLEN", "states", &[]).await == 2 + marks
    })
    .await;
    deployment.sum("DEL", "states", &[]).await;
    client.post("/v1/sweep", &json!({})).await;
    let reset = stream.next().await;
    assert_eq!(reset.name, "presence.reset");
    assert_eq!(reset.json()["reason"], "data-lost");
    // The updates may come before the reset.
    let body = json!({"userIds": ["alice", "bob", "carol"], "states": true});
    let expected = json!({"alice": {"away": true}, "bob": {"away": true}});
    eventually_true("both are away as before", async || {
        let found: Value = client.post("/v1/online", &body).await.ok();
        found["states"] == expected
    })
    .await;
}

#[tokio::test]
async fn a_user_whose_connection_list_was_lost_stays_and_expires_in_time() {
    run_quietly();
    let deployment = Deployment::of(1, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect_as("bob", "phone").await;
    client.connect_as("bob", "laptop").await;
    let lost = deployment.names().of_user("conns", "bob");
    deployment.command::<()>(&["DEL", &lost]).await;
    let last = client.ping_as("bob", "phone").await;
    assert!(!last.became_online);
    assert_eq!(client.user("bob").await.connection_ids(), ["phone"]);
    let gone = stream.changes(2).await.pop().expect("two changes");
    let late = gone.timestamp().millis_after(last.expires_at);
    assert!((0..1_000).contains(&late), "{late} ms late");
    eventually_true("nothing is left behind", async || {
        let of_bob = deployment.names().pattern("*:bob");
        let keys: Vec<String> = deployment.command(&["KEYS", &of_bob]).await;
        keys.is_empty()
    })
    .await;
}

/// Until the key of the user expires, the service does not know whether the other connections are open.
#[tokio::test]
async fn a_disconnect_after_the_connection_list_was_lost_closes_no_other_connection() {
    run_quietly();
    let deployment = Deployment::of(1, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let mut last = BTreeMap::new();
    for user in ["alice", "bob"] {
        for connection in ["phone", "laptop"] {
            let alive = client.connect_as(user, connection).await;
            last.insert(user, alive.expires_at);
        }
        let lost = deployment.names().of_user("conns", user);
        deployment.command::<()>(&["DEL", &lost]).await;
    }
    for (user, closed) in [("alice", "phone"), ("bob", "tablet")] {
        let left = client.disconnect_as(user, closed).await;
        assert!(left.online && !left.became_offline, "{left:?}");
        assert!(client.user(user).await.online);
    }
    assert!(!client.ping_as("bob", "laptop").await.became_online);
    assert!(client.disconnect_all("bob").await.became_offline);
    let gone = stream.changes(4).await.pop().expect("four changes");
    assert_eq!(gone.brief(), "offline alice");
    let late = gone.timestamp().millis_after(last["alice"]);
    assert!((-100..1_000).contains(&late), "{late} ms late");
}
