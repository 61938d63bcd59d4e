//! The permissions of calls about groups.

use std::collections::BTreeSet;

use harness::client::{Answer, Client, send};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::groups::path_of;
use harness::sse::{Event, Stream};
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
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
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
    let deployment = Deployment::with(store, settings_with_credentials()).await;
    let client = deployment.client();
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

async fn a_stream_of_groups_needs_permission_for_each_group(store: Store) {
    let deployment = Deployment::with(store, settings_with_credentials()).await;
    let client = deployment.client();
    store_members(&client, "mine", &["alice"]).await;
    store_members(&client, "other", &["bob"]).await;
    let named = token(&with(claims("alice"), "groups", json!(["mine"])));
    let own = token(&with(claims("alice"), "groups", json!("own")));
    let none = token(&claims("alice"));
    for (what, credential, query, expected) in [
        ("a named group", &*named, "?groupIds=mine", 200),
        (
            "a named group and another",
            &named,
            "?groupIds=mine,other",
            403,
        ),
        (
            "a group and itself",
            &named,
            "?groupIds=mine&userIds=alice",
            200,
        ),
        (
            "a group and a stranger",
            &named,
            "?groupIds=mine&userIds=bob",
            403,
        ),
        ("all users", &named, "", 403),
        ("an own group", &own, "?groupIds=mine", 200),
        ("the group of others", &own, "?groupIds=other", 403),
        ("own groups", &own, "", 200),
        ("no groups", &none, "?groupIds=mine", 403),
        ("a key that may read", READ_KEY, "?groupIds=mine,other", 200),
        ("a key that may write", WRITE_KEY, "?groupIds=mine", 403),
    ] {
        let request = Stream::request(&client, query).bearer_auth(credential);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), expected, "{what}");
    }
}

async fn open_own(client: &Client, query: &str, cursor: Option<&str>) -> Stream {
    let own = token(&with(claims("alice"), "groups", json!("own")));
    let request = Stream::request(client, query).bearer_auth(own);
    Stream::send(match cursor {
        Some(cursor) => request.header("Last-Event-ID", cursor),
        None => request,
    })
    .await
}

async fn act(client: &Client, user: &str, verb: &str) {
    let answer = send(client.of_user(user, verb).bearer_auth(WRITE_KEY)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// `joined team [alice]`, `left team [bob]`, `snapshot team [carol]`, `online bob`.
fn brief(event: &Event) -> String {
    let data = event.json();
    let ids = |field: &str| {
        let mut ids: Vec<_> = data[field].as_array().cloned().unwrap_or_default();
        ids.sort_by_key(ToString::to_string);
        let ids = ids.iter().map(|id| id.as_str().expect("an id"));
        ids.collect::<Vec<_>>().join(" ")
    };
    let group = data["groupId"].as_str().unwrap_or_default();
    match &*event.name {
        "group.joined" => format!("joined {group} [{}]", ids("userIds")),
        "group.left" => format!("left {group} [{}]", ids("userIds")),
        "presence.snapshot" => format!("snapshot {group} [{}]", ids("online")),
        "presence.reset" => format!("reset {}", event.reason()),
        _ => event.brief(),
    }
}

async fn until(stream: &mut Stream, last: &str) -> Vec<String> {
    let events = stream.collect_until(|event| brief(event) == last).await;
    events.iter().map(brief).collect()
}

async fn a_stream_of_own_groups_follows_them(store: Store) {
    let deployment = Deployment::with(store, settings_with_credentials()).await;
    let client = deployment.client();
    store_members(&client, "team", &["alice", "bob"]).await;
    store_members(&client, "other", &["carol", "dave"]).await;
    act(&client, "carol", "connect").await;
    let mut stream = open_own(&client, "", None).await;
    act(&client, "bob", "connect").await;
    assert_eq!(brief(&stream.next().await), "online bob");
    act(&client, "dave", "connect").await;
    store_members(&client, "other", &["alice", "carol", "dave"]).await;
    let seen = until(&mut stream, "snapshot other [carol dave]").await;
    assert_eq!(
        seen,
        ["joined other [alice]", "snapshot other [carol dave]"]
    );
    // Events of different partitions have no order, so the test waits for each step.
    act(&client, "carol", "disconnect").await;
    assert_eq!(brief(&stream.next().await), "offline carol");
    store_members(&client, "other", &["alice", "erin"]).await;
    let seen = until(&mut stream, "joined other [erin]").await;
    assert_eq!(seen, ["left other [carol dave]", "joined other [erin]"]);
    act(&client, "dave", "disconnect").await;
    act(&client, "erin", "connect").await;
    assert_eq!(brief(&stream.next().await), "online erin");
    store_members(&client, "team", &["bob", "frank"]).await;
    assert_eq!(brief(&stream.next().await), "left team [alice]");
    act(&client, "bob", "disconnect").await;
    act(&client, "erin", "disconnect").await;
    assert_eq!(brief(&stream.next().await), "offline erin");
    // Many changes in a row.
    for group in ["one", "two", "three"] {
        store_members(&client, group, &["alice", "erin"]).await;
        store_members(&client, group, &["erin"]).await;
        store_members(&client, group, &["alice", "zoe"]).await;
    }
    act(&client, "zoe", "connect").await;
    // A group has a snapshot after its last join. It shows zoe, or the event comes later.
    let mut lacking = BTreeSet::from(["one", "two", "three"]);
    let (mut shown, mut online) = (BTreeSet::new(), 0);
    let events = stream.collect_until(|event| {
        let text = brief(event);
        for group in ["one", "two", "three"] {
            if text.starts_with(&format!("snapshot {group} ")) {
                lacking.remove(group);
                shown.extend(text.contains("zoe").then_some(group));
            } else if text.starts_with(&format!("joined {group} ")) {
                lacking.insert(group);
                shown.remove(group);
            }
        }
        online += usize::from(text == "online zoe");
        lacking.is_empty() && (online == 1 || shown.len() == 3)
    });
    let events = events.await;
    assert!(online <= 1, "{events:?}");
}

async fn a_stream_of_own_groups_begins_with_their_snapshots(store: Store) {
    let deployment = Deployment::with(store, settings_with_credentials()).await;
    let client = deployment.client();
    let mut empty = open_own(&client, "?snapshot=true", None).await;
    assert_eq!(
        empty.next().await.json(),
        json!({"count": 0}),
        "presence.ready"
    );
    store_members(&client, "team", &["alice", "bob"]).await;
    store_members(&client, "other", &["carol"]).await;
    store_members(&client, "third", &["alice", "carol"]).await;
    assert_eq!(
        until(&mut empty, "snapshot third []").await.len(),
        4,
        "two groups with their snapshots"
    );
    for user in ["bob", "carol"] {
        act(&client, user, "connect").await;
    }
    assert_eq!(
        until(&mut empty, "online carol").await,
        ["online bob", "online carol"]
    );
    let mut stream = open_own(&client, "?snapshot=true", None).await;
    let seen = until(&mut stream, "presence.ready").await;
    assert_eq!(
        seen,
        [
            "snapshot team [bob]",
            "snapshot third [carol]",
            "presence.ready"
        ]
    );
}

async fn a_resume_of_own_groups_is_reset_if_they_changed(store: Store) {
    let deployment = Deployment::with(store, settings_with_credentials()).await;
    let client = deployment.client();
    store_members(&client, "team", &["alice", "bob"]).await;
    let cursor = {
        let mut stream = open_own(&client, "", None).await;
        act(&client, "bob", "connect").await;
        stream.next().await.id
    };
    act(&client, "bob", "disconnect").await;
    let mut stream = open_own(&client, "", Some(&cursor)).await;
    assert_eq!(brief(&stream.next().await), "offline bob");
    store_members(&client, "other", &["alice", "carol"]).await;
    let mut stream = open_own(&client, "?snapshot=true", Some(&cursor)).await;
    let seen = until(&mut stream, "presence.ready").await;
    let expected = [
        "reset group-changed",
        "snapshot other []",
        "snapshot team []",
        "presence.ready",
    ];
    assert_eq!(seen, expected);
    store_members(&client, "team", &["bob"]).await;
    let mut stream = open_own(&client, "", Some(&cursor)).await;
    assert_eq!(brief(&stream.next().await), "reset group-changed");
    act(&client, "bob", "connect").await;
    act(&client, "carol", "connect").await;
    assert_eq!(brief(&stream.next().await), "online carol");
}

/// A forbidden caller must not learn whether a group exists, and its body is not read.
async fn the_permission_is_checked_before_the_body(store: Store) {
    let deployment = Deployment::with(store, settings_with_credentials()).await;
    let client = deployment.client();
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
    a_stream_of_groups_needs_permission_for_each_group,
    a_stream_of_own_groups_follows_them,
    a_stream_of_own_groups_begins_with_their_snapshots,
    a_resume_of_own_groups_is_reset_if_they_changed,
    the_permission_is_checked_before_the_body,
);
