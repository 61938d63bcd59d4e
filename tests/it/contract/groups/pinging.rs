//! Members by pinging: a connection that states a group makes its user a member.

use harness::client::{Answer, Client, send};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::groups::{count, get, patch, put};
use harness::instance::Settings;
use harness::sse::Stream;
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::{Value, json};

use super::streams::{assert_next, open};
use crate::contract::problems::problem;

/// Sends a connect, ping or disconnect.
async fn call(client: &Client, user: &str, verb: &str, body: Value) -> Answer {
    let path = format!("/v1/users/{user}/{verb}");
    send(client.request(Method::POST, &path).json(&body)).await
}

/// Sends a connect, ping or disconnect, and returns the groups of the answer.
async fn stated(client: &Client, user: &str, verb: &str, body: Value) -> Value {
    let answer: Value = call(client, user, verb, body).await.ok();
    answer["groups"].clone()
}

async fn a_connection_is_a_member_while_it_states_the_group(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = open(&client, "?groupIds=doc,other,markers").await;
    let groups = json!({"groups": ["other", "doc"]});
    let answered = stated(&client, "alice", "connect", groups.clone()).await;
    assert_eq!(answered, json!(["other", "doc"]));
    let mut joined = [stream.next().await.json(), stream.next().await.json()];
    joined.sort_by_key(|data| data["groupId"].to_string());
    for (data, group) in joined.iter().zip(["doc", "other"]) {
        assert_eq!(data["groupId"], group);
        assert_eq!(data["userIds"], json!(["alice"]));
        assert_eq!(data["online"], json!(["alice"]));
    }
    for _ in 0..3 {
        assert_eq!(
            stated(&client, "alice", "ping", groups.clone()).await,
            json!(["other", "doc"])
        );
    }
    assert_eq!(get(&client, "doc").await.online, ["alice"]);
    assert_eq!(count(&client, "doc").await, (1, 1));

    let omitted = json!({"groups": ["doc", "doc"]});
    assert_eq!(
        stated(&client, "alice", "ping", omitted).await,
        json!(["doc"])
    );
    assert_eq!(count(&client, "other").await, (0, 0));
    assert_next(&mut stream, &["left other alice disconnected"]).await;
    assert_eq!(
        stated(&client, "alice", "ping", json!({})).await,
        Value::Null
    );
    assert_next(&mut stream, &["left doc alice disconnected"]).await;
    assert_eq!(
        stated(&client, "alice", "ping", json!({"groups": []})).await,
        json!([])
    );
    assert_eq!(count(&client, "doc").await, (0, 0));
    client.connect("marker").await;
    assert_next(&mut stream, &["online marker"]).await;
}

async fn the_membership_ends_with_the_connection(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = open(&client, "?groupIds=doc").await;
    let tab = |name: &str| json!({"connectionId": name, "groups": ["doc"]});
    for closing in [json!({"connectionId": "tab-1"}), json!({"all": true})] {
        call(&client, "alice", "connect", tab("tab-1")).await;
        assert_next(&mut stream, &["joined doc alice (online)"]).await;
        call(&client, "alice", "disconnect", closing).await;
        assert_eq!(count(&client, "doc").await, (0, 0));
        let mut ends = [stream.next().await.name, stream.next().await.name];
        ends.sort();
        assert_eq!(ends, ["group.left", "user.offline"]);
    }
    call(&client, "alice", "connect", tab("tab-1")).await;
    call(&client, "alice", "connect", tab("tab-2")).await;
    assert_next(&mut stream, &["joined doc alice (online)"]).await;
    call(
        &client,
        "alice",
        "disconnect",
        json!({"connectionId": "tab-1"}),
    )
    .await;
    assert_eq!(count(&client, "doc").await, (1, 1));
    call(&client, "alice", "ping", json!({"connectionId": "tab-2"})).await;
    assert_next(&mut stream, &["left doc alice disconnected"]).await;
}

async fn a_membership_expires_with_the_ttl(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = open(&client, "?groupIds=doc").await;
    call(
        &client,
        "alice",
        "connect",
        json!({"connectionId": "phone"}),
    )
    .await;
    let tab = json!({"connectionId": "tab", "ttlMs": 1_000, "groups": ["doc"]});
    call(&client, "alice", "connect", tab.clone()).await;
    assert_next(&mut stream, &["joined doc alice (online)"]).await;
    call(&client, "alice", "ping", tab).await;
    assert_next(&mut stream, &["left doc alice expired"]).await;
    assert_eq!(count(&client, "doc").await, (0, 0));
    assert!(client.user("alice").await.online);
}

async fn a_stored_member_neither_joins_nor_leaves_by_pinging(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "doc", &["alice"]).await;
    let mut stream = open(&client, "?groupIds=doc").await;
    call(&client, "alice", "connect", json!({"groups": ["doc"]})).await;
    assert_next(&mut stream, &["online alice"]).await;
    assert_eq!(count(&client, "doc").await, (1, 1));
    assert_eq!(
        patch(&client, "doc", &[], &["alice"]).await.counts(),
        (0, 0, 1)
    );
    assert_eq!(count(&client, "doc").await, (1, 1));
    assert_eq!(
        put(&client, "doc", &["alice", "bob"]).await.counts(),
        (2, 2, 0)
    );
    assert_next(&mut stream, &["joined doc bob"]).await;
    call(&client, "alice", "ping", json!({})).await;
    assert_eq!(
        patch(&client, "doc", &[], &["alice"]).await.counts(),
        (1, 0, 1)
    );
    assert_next(&mut stream, &["left doc alice removed"]).await;
}

async fn a_connection_that_leaves_stays_a_member_until_its_end(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = open(&client, "?groupIds=doc").await;
    let states = json!({"connectionId": "tab", "groups": ["doc"]});
    call(
        &client,
        "alice",
        "connect",
        json!({"connectionId": "phone"}),
    )
    .await;
    call(&client, "alice", "connect", states.clone()).await;
    assert_next(&mut stream, &["joined doc alice (online)"]).await;
    let leave = |grace: u64| json!({"connectionId": "tab", "graceMs": grace});
    call(&client, "alice", "disconnect", leave(60_000)).await;
    assert_eq!(count(&client, "doc").await, (1, 1));
    call(&client, "alice", "connect", states).await;
    call(&client, "alice", "disconnect", leave(300)).await;
    assert_next(&mut stream, &["left doc alice disconnected"]).await;
    assert_eq!(count(&client, "doc").await, (0, 0));
}

async fn a_full_group_is_not_joined(store: Store) {
    let settings = Settings::new().with("PRESENCE_GROUP_MEMBERS", "2");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    put(&client, "doc", &["alice"]).await;
    let groups = json!({"groups": ["doc", "other"]});
    for (user, expected) in [
        ("alice", json!(["doc", "other"])),
        ("bob", json!(["doc", "other"])),
        ("carol", json!(["other"])),
    ] {
        let body = match user {
            "carol" => groups.clone(),
            _ => json!({"groups": ["doc", "other"], "connectionId": user}),
        };
        let expected = match user {
            "carol" => json!([]),
            _ => expected,
        };
        assert_eq!(
            stated(&client, user, "connect", body).await,
            expected,
            "{user}"
        );
    }
    assert_eq!(count(&client, "doc").await, (2, 2));
    assert_eq!(
        stated(&client, "carol", "ping", groups.clone()).await,
        json!([])
    );
    let closed = call(&client, "bob", "disconnect", json!({"all": true})).await;
    assert_eq!(closed.status, 200);
    let joined = json!(["doc", "other"]);
    assert_eq!(stated(&client, "carol", "ping", groups).await, joined);
    assert!(
        get(&client, "doc")
            .await
            .online
            .contains(&"carol".to_owned())
    );
}

async fn a_snapshot_has_the_members_by_pinging(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    put(&client, "doc", &["bob"]).await;
    call(&client, "alice", "connect", json!({"groups": ["doc"]})).await;
    let mut stream = Stream::open(&client, "?groupIds=doc&snapshot=true").await;
    assert_next(&mut stream, &["snapshot doc 2 alice"]).await;
}

async fn bad_groups_are_refused_and_nothing_is_stored(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let eleven: Vec<_> = (0..11).map(|each| format!("doc-{each}")).collect();
    let same = ["doc"; 11];
    for (groups, named) in [
        (json!(eleven), "groups: contains 11 ids; the limit is 10"),
        (json!(same), "groups: contains 11 ids; the limit is 10"),
        (json!(["doc", ""]), "groups[1]"),
        (json!(["a\nb"]), "groups[0]"),
        (json!(["x".repeat(129)]), "groups[0]"),
    ] {
        for verb in ["connect", "ping"] {
            let refused = call(&client, "alice", verb, json!({"groups": groups})).await;
            let problem = problem(&refused, 400);
            assert!(problem.kind.ends_with(":invalid-groups"), "{problem:?}");
            assert!(problem.detail.contains(named), "{problem:?}");
        }
    }
    for groups in [json!("doc"), json!([1]), json!({"doc": true})] {
        let refused = call(&client, "alice", "connect", json!({"groups": groups})).await;
        let problem = problem(&refused, 400);
        assert!(problem.kind.ends_with(":invalid-json"), "{problem:?}");
    }
    assert!(!client.user("alice").await.online);
    assert_eq!(count(&client, "doc").await, (0, 0));
}

async fn ten_groups_with_the_longest_ids_are_stated(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let groups: Vec<_> = (0..10)
        .map(|each| format!("{each} é{}", "x".repeat(124)))
        .collect();
    for verb in ["connect", "ping", "ping"] {
        let answered = stated(&client, "alice", verb, json!({"groups": groups})).await;
        assert_eq!(answered, json!(groups));
    }
    for connection in ["tab", "phone", "tab", "phone"] {
        let body =
            json!({"connectionId": connection, "away": true, "ttlMs": 9_000, "groups": groups});
        assert_eq!(stated(&client, "alice", "ping", body).await, json!(groups));
    }
    let counted = count(&client, &groups[9]).await;
    assert_eq!(counted, (1, 1));
    call(&client, "alice", "disconnect", json!({"all": true})).await;
    assert_eq!(count(&client, &groups[9]).await, (0, 0));
}

async fn a_membership_that_expired_is_no_membership_before_the_sweep(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    call(
        &client,
        "alice",
        "connect",
        json!({"ttlMs": 1_000, "groups": ["doc"]}),
    )
    .await;
    eventually_true("the user is offline", async || {
        !client.user("alice").await.online
    })
    .await;
    assert_eq!(count(&client, "doc").await.1, 0);
    eventually_true("the membership has ended", async || {
        count(&client, "doc").await == (0, 0)
    })
    .await;
}

on_both_stores!(
    a_connection_is_a_member_while_it_states_the_group,
    the_membership_ends_with_the_connection,
    a_membership_expires_with_the_ttl,
    a_stored_member_neither_joins_nor_leaves_by_pinging,
    a_connection_that_leaves_stays_a_member_until_its_end,
    a_full_group_is_not_joined,
    a_snapshot_has_the_members_by_pinging,
    bad_groups_are_refused_and_nothing_is_stored,
    ten_groups_with_the_longest_ids_are_stated,
    a_membership_that_expired_is_no_membership_before_the_sweep,
);
