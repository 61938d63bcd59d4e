//! The permissions of calls about groups.

use harness::client::{Answer, Client, send};
use harness::cluster::{Cluster, Store, on_both_stores};
use harness::groups::path_of;
use reqwest::Method;
use serde_json::{Value, json};

use super::{READ_KEY, WRITE_KEY, assert_refused, claims, settings_with_credentials, token, with};

/// Each call about a group: its method, the end of its path and its body.
const CALLS: [(Method, &str, Option<&str>); 5] = [
    (Method::PUT, "", Some(r#"{"members":["alice","bob"]}"#)),
    (Method::PATCH, "", Some(r#"{"add":["alice"]}"#)),
    (Method::GET, "", None),
    (Method::GET, "/count", None),
    (Method::DELETE, "", None),
];

async fn call(
    client: &Client,
    group: &str,
    (method, tail, body): (Method, &str, Option<&str>),
    credential: Option<&str>,
) -> Answer {
    let mut request = client.request(method, &format!("{}{tail}", path_of(group)));
    if let Some(body) = body {
        request = request
            .header("Content-Type", "application/json")
            .body(body.to_owned());
    }
    if let Some(credential) = credential {
        request = request.bearer_auth(credential);
    }
    send(request).await
}

async fn store_members(client: &Client, group: &str, members: &[&str]) {
    let body = json!({"members": members});
    let request = client.request(Method::PUT, &path_of(group)).json(&body);
    let answer = send(request.bearer_auth(WRITE_KEY)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

async fn each_caller_may_make_exactly_its_calls(store: Store) {
    let settings = settings_with_credentials().with("PRESENCE_RATE_LIMIT", "off");
    let cluster = Cluster::with(store, settings).await;
    let client = cluster.client();
    let alice = |claim: &str, value: Value| token(&with(claims("alice"), claim, value));
    let read = [403, 403, 200, 200, 403];
    for (caller, credential, expected) in [
        ("no credential", None, [401; 5]),
        ("a user", Some(token(&claims("alice"))), [403; 5]),
        (
            "the group is named",
            Some(alice("groups", json!(["team-8", "team-7"]))),
            read,
        ),
        (
            "another group is named",
            Some(alice("groups", json!(["team"]))),
            [403; 5],
        ),
        ("all groups", Some(alice("groups", json!("*"))), read),
        (
            "a group named *",
            Some(alice("groups", json!(["*"]))),
            [403; 5],
        ),
        ("own groups", Some(alice("groups", json!("own"))), read),
        (
            "watching everyone",
            Some(alice("watch", json!("*"))),
            [403; 5],
        ),
        ("joining", Some(alice("join", json!(["team-7"]))), [403; 5]),
        ("a key with presence.read", Some(READ_KEY.to_owned()), read),
        (
            "a key with presence.write",
            Some(WRITE_KEY.to_owned()),
            [200, 200, 403, 403, 200],
        ),
    ] {
        store_members(&client, "team-7", &["alice", "bob"]).await;
        for (each, expected) in CALLS.into_iter().zip(expected) {
            let what = format!("{caller}: {} {}", each.0, each.1);
            let answer = call(&client, "team-7", each, credential.as_deref()).await;
            match expected {
                200 => assert_eq!(answer.status, 200, "{what}: {}", answer.body),
                _ => drop(assert_refused(&answer, expected, &what)),
            }
        }
    }
}

async fn an_own_group_is_seen_only_while_the_user_is_a_member(store: Store) {
    let cluster = Cluster::with(store, settings_with_credentials()).await;
    let client = cluster.client();
    let own = token(&with(claims("alice"), "groups", json!("own")));
    let read = async || call(&client, "team-7", (Method::GET, "", None), Some(&own)).await;
    let refused = assert_refused(&read().await, 403, "an unknown group");
    assert!(
        refused["detail"]
            .as_str()
            .is_some_and(|why| why.contains("team-7"))
    );
    store_members(&client, "team-7", &["alice", "bob"]).await;
    assert_eq!(read().await.ok::<Value>()["members"], 2);
    store_members(&client, "team-7", &["bob"]).await;
    assert_refused(&read().await, 403, "a group that the user left");
}

/// A forbidden caller must not learn whether a group exists, and its body is not read.
async fn the_permission_is_checked_before_the_body(store: Store) {
    let cluster = Cluster::with(store, settings_with_credentials()).await;
    let client = cluster.client();
    for method in [Method::PUT, Method::PATCH] {
        let answer = async |credential| {
            let each = (method.clone(), "", Some("nonsense"));
            call(&client, "team", each, credential).await
        };
        assert_refused(&answer(None).await, 401, "no credential");
        assert_refused(&answer(Some(READ_KEY)).await, 403, "a key that may read");
        assert_eq!(answer(Some(WRITE_KEY)).await.status, 400);
    }
}

on_both_stores!(
    each_caller_may_make_exactly_its_calls,
    an_own_group_is_seen_only_while_the_user_is_a_member,
    the_permission_is_checked_before_the_body,
);
