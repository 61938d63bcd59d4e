//! Members by pinging while instances die, messages are late, and calls of one connection race.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::client::{Client, send, try_send};
use harness::deployment::Deployment;
use harness::groups::{count, online, patch};
use harness::instance::Settings;
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::groups::members_by_events;

const GROUPS: [&str; 3] = ["doc-1", "doc-2", "doc-3"];

async fn states(client: &Client, user: &str, connection: &str, groups: &[&str]) {
    let path = format!("/v1/users/{user}/connect");
    let body = json!({"connectionId": connection, "groups": groups});
    let answer = send(client.request(Method::POST, &path).json(&body)).await;
    assert_eq!(answer.ok::<Value>()["groups"], json!(groups));
}

/// Writes a message into the outbox of a user, as a call writes it whose instance dies before it delivers the message.
async fn leave_message(deployment: &Deployment, user: &str, stamp: &str, group: &str) {
    let names = deployment.names();
    let (outbox, bus) = (names.key("outbox", user), names.key("bus", user));
    let message = format!("{stamp} 0 d\u{1f}{user}\u{1f}tab\u{1f}{group}");
    deployment
        .command::<i64>(&["ZADD", &outbox, "1", &message])
        .await;
    deployment
        .command::<i64>(&[names.publish(), &bus, "nearer"])
        .await;
    eventually_true("the message is delivered", async || {
        deployment.command::<i64>(&["ZCARD", &outbox]).await == 0
    })
    .await;
}

async fn microseconds(deployment: &Deployment) -> u64 {
    let (seconds, rest): (u64, u64) = deployment.command(&["TIME"]).await;
    seconds * 1_000_000 + rest
}

#[tokio::test]
async fn a_message_whose_instance_died_is_delivered_by_a_sweep() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    states(&client, "alice", "tab", &["doc-1"]).await;
    let stamp = microseconds(&deployment).await.to_string();
    leave_message(&deployment, "alice", &stamp, "doc-1").await;
    assert_eq!(count(&client, "doc-1").await, (0, 0));
    assert!(members_by_events(&deployment, "doc-1").await.is_empty());
    // The next ping finds no seat, and the connection gets one again.
    states(&client, "alice", "tab", &["doc-1"]).await;
    assert_eq!(count(&client, "doc-1").await, (1, 1));
}

#[tokio::test]
async fn a_message_that_is_older_than_the_seat_changes_nothing() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    let stamp = microseconds(&deployment).await.to_string();
    states(&client, "alice", "tab", &["doc-1"]).await;
    leave_message(&deployment, "alice", &stamp, "doc-1").await;
    assert_eq!(count(&client, "doc-1").await, (1, 1));
}

#[tokio::test]
async fn a_step_that_arrives_after_a_later_one_changes_nothing() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    let later = (microseconds(&deployment).await + 30_000_000).to_string();
    leave_message(&deployment, "alice", &later, "doc-1").await;
    states(&client, "alice", "tab", &["doc-1"]).await;
    assert_eq!(count(&client, "doc-1").await, (0, 0));
    assert!(members_by_events(&deployment, "doc-1").await.is_empty());
}

/// Number of times that a user joined a group, and that it left the group, by the events of the group.
async fn changes_of(deployment: &Deployment, group: &str, user: &str) -> (usize, usize) {
    let history = deployment.names().key("events", group);
    let entries: Vec<(String, Vec<String>)> =
        deployment.command(&["XRANGE", &history, "-", "+"]).await;
    let of = |kind: &str| {
        let is_of = |(_, fields): &&(String, Vec<String>)| {
            let mut words = fields[1].splitn(3, ' ');
            words.nth(1) == Some(kind) && fields[1].ends_with(user)
        };
        entries.iter().filter(is_of).count()
    };
    (of("j"), of("l"))
}

#[tokio::test]
async fn a_steady_ping_writes_no_event_and_no_message() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    states(&client, "alice", "tab", &GROUPS).await;
    let state = async || {
        let names = deployment.names();
        let mut state = Vec::new();
        for partition in names.all("events") {
            state.push(deployment.command::<u64>(&["XLEN", &partition]).await);
        }
        let stamp: u64 = deployment
            .command(&["GET", &names.key("stamp", "alice")])
            .await;
        state.push(stamp);
        state
    };
    let before = state().await;
    let path = "/v1/users/alice/ping";
    let body = json!({"connectionId": "tab", "groups": GROUPS});
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let answer = send(client.request(Method::POST, path).json(&body)).await;
        assert_eq!(answer.ok::<Value>()["groups"], json!(GROUPS));
    }
    assert_eq!(state().await, before);
}

#[tokio::test]
async fn an_outage_ends_no_membership_of_a_client_that_pings_again() {
    // The departures are held for two seconds, in which a busy machine sends a ping too.
    let settings = Settings::new().with("PRESENCE_TTL", "3s");
    let settings = settings.with("PRESENCE_PING_INTERVAL", "1500ms");
    let mut deployment = Deployment::of(1, settings).await;
    let client = deployment.client();
    let ping = json!({"groups": ["doc-1"]});
    for user in ["alice", "bob"] {
        let path = format!("/v1/users/{user}/ping");
        send(client.request(Method::POST, &path).json(&ping))
            .await
            .ok::<Value>();
    }
    deployment.instances[0].kill();
    tokio::time::sleep(Duration::from_secs(5)).await;
    deployment.replace(0).await;
    let client = deployment.client();
    eventually_true("the silent member has left", async || {
        send(
            client
                .request(Method::POST, "/v1/users/alice/ping")
                .json(&ping),
        )
        .await
        .ok::<Value>();
        changes_of(&deployment, "doc-1", "bob").await == (1, 1)
    })
    .await;
    assert_eq!(changes_of(&deployment, "doc-1", "alice").await, (1, 0));
    assert_eq!(count(&client, "doc-1").await, (1, 1));
}

/// A random step of a connection. Its answer does not matter: an instance may die.
async fn random_step(client: &Client, user: &str) {
    let connection = ["tab-1", "tab-2", "phone"][fastrand::usize(..3)];
    let groups: Vec<_> = GROUPS.iter().filter(|_| fastrand::bool()).collect();
    let (verb, body) = match fastrand::u8(..8) {
        0 => ("disconnect", json!({"all": true})),
        1 => ("disconnect", json!({"connectionId": connection})),
        2 => (
            "disconnect",
            json!({"connectionId": connection, "graceMs": 200}),
        ),
        3..6 => (
            "connect",
            json!({"connectionId": connection, "groups": groups, "ttlMs": 1_500}),
        ),
        _ => (
            "ping",
            json!({"connectionId": connection, "groups": groups, "ttlMs": 1_500}),
        ),
    };
    let path = format!("/v1/users/{user}/{verb}");
    let _ = try_send(client.request(Method::POST, &path).json(&body)).await;
}

#[tokio::test]
async fn the_events_tell_the_members_after_races_and_deaths() {
    let mut deployment = Deployment::of(3, Settings::mortal()).await;
    let clients = deployment.clients();
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        let client = clients[caller % clients.len()].clone();
        callers.spawn(async move {
            let users = ["alice", "bob", "carol"];
            for round in 0..80 {
                random_step(&client, users[(caller + round) % 3]).await;
            }
        });
    }
    for victim in [1, 2] {
        tokio::time::sleep(Duration::from_millis(400)).await;
        deployment.instances[victim].kill();
        deployment.replace(victim).await;
    }
    callers.join_all().await;
    let client = deployment.client();
    // A user that is stored stays a member, and each group has members of both kinds.
    patch(&client, "doc-1", &["alice"], &[]).await;
    for user in ["alice", "bob"] {
        let path = format!("/v1/users/{user}/connect");
        let body = json!({"connectionId": "last", "groups": ["doc-2"], "ttlMs": 60_000});
        send(client.request(Method::POST, &path).json(&body))
            .await
            .ok::<Value>();
    }
    let expected = [vec!["alice"], vec!["alice", "bob"], vec![]];
    for (group, expected) in GROUPS.iter().zip(expected) {
        let expected: BTreeSet<_> = expected.into_iter().map(str::to_owned).collect();
        eventually_true("the other memberships have ended", async || {
            let events = members_by_events(&deployment, group).await;
            events == expected && count(&client, group).await.0 == expected.len()
        })
        .await;
        let members: BTreeSet<_> = online(&client, group, 100).await.into_iter().collect();
        assert_eq!(members, expected);
    }
    for outbox in deployment.names().all("outbox") {
        eventually_true("every message was delivered", async || {
            deployment.command::<i64>(&["ZCARD", &outbox]).await == 0
        })
        .await;
    }
}
