//! The permission to join groups by pinging.

use harness::client::{Answer, Client, send};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::groups::path_of;
use harness::sse::Stream;
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::{Value, json};

use super::{READ_KEY, WRITE_KEY, assert_refused, claims, settings_with_credentials, token, with};

async fn act(client: &Client, verb: &str, groups: &[&str], credential: &str) -> Answer {
    let request = client.of_user("alice", verb).bearer_auth(credential);
    send(request.json(&json!({"groups": groups}))).await
}

async fn members(client: &Client, group: &str) -> Value {
    let request = client.request(Method::GET, &path_of(group));
    let group: Value = send(request.bearer_auth(READ_KEY)).await.ok();
    group["members"].clone()
}

async fn a_user_joins_only_the_groups_that_its_token_names(store: Store) {
    let settings = settings_with_credentials().with("PRESENCE_RATE_LIMIT", "off");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let alice = |claim: &str, value: Value| token(&with(claims("alice"), claim, value));
    for credential in [
        token(&claims("alice")),
        alice("join", json!([])),
        alice("join", json!(["doc", "*"])),
        alice("groups", json!("*")),
        alice("watch", json!("*")),
    ] {
        for verb in ["connect", "ping"] {
            let refused = act(&client, verb, &["doc", "doc-42"], &credential).await;
            let problem = assert_refused(&refused, 403, verb);
            let detail = problem["detail"].as_str().expect("a text");
            assert!(
                detail.starts_with("groups: ") && detail.contains("doc"),
                "{detail}"
            );
        }
    }
    assert_eq!(members(&client, "doc-42").await, 0);
    for credential in [
        alice("join", json!(["doc-42", "doc"])),
        alice("join", json!("*")),
        WRITE_KEY.to_owned(),
    ] {
        for verb in ["connect", "ping"] {
            let answer = act(&client, verb, &["doc", "doc-42"], &credential).await;
            assert_eq!(answer.ok::<Value>()["groups"], json!(["doc", "doc-42"]));
        }
        assert_eq!(members(&client, "doc-42").await, 1);
        assert_eq!(act(&client, "ping", &[], &credential).await.status, 200);
        assert_eq!(members(&client, "doc-42").await, 0);
    }
    let none = act(&client, "ping", &[], &token(&claims("alice"))).await;
    assert_eq!(none.ok::<Value>()["groups"], json!([]));
    assert_refused(
        &act(&client, "ping", &["doc"], READ_KEY).await,
        403,
        "a key that may read",
    );
}

async fn a_stream_of_own_groups_follows_the_pings(store: Store) {
    let settings = settings_with_credentials().with("PRESENCE_RATE_LIMIT", "off");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let own = with(
        with(claims("alice"), "groups", json!("own")),
        "join",
        json!("*"),
    );
    let own = token(&own);
    assert_eq!(act(&client, "connect", &["doc-1"], &own).await.status, 200);
    let request = Stream::request(&client, "?snapshot=true").bearer_auth(&own);
    let mut stream = Stream::send(request).await;
    let snapshot = stream.next().await.json();
    assert_eq!(
        (&snapshot["groupId"], &snapshot["members"]),
        (&json!("doc-1"), &json!(1))
    );
    assert_eq!(snapshot["online"], json!(["alice"]));
    assert_eq!(stream.next().await.name, "presence.ready");

    act(&client, "ping", &["doc-1", "doc-2"], &own).await;
    let joined = stream.next().await;
    assert_eq!(
        (&*joined.name, &joined.json()["groupId"]),
        ("group.joined", &json!("doc-2"))
    );
    assert_eq!(stream.next().await.json()["groupId"], "doc-2");
    act(&client, "ping", &["doc-2"], &own).await;
    let left = stream.next().await;
    assert_eq!(
        (&*left.name, &left.json()["groupId"]),
        ("group.left", &json!("doc-1"))
    );
    assert_eq!(left.json()["reason"], "disconnected");
}

/// The sweeps are rare, so that a membership is announced for a while after its deadline.
async fn a_stream_of_own_groups_has_those_whose_end_is_not_announced_yet(store: Store) {
    let settings = settings_with_credentials()
        .with("PRESENCE_RATE_LIMIT", "off")
        .with("PRESENCE_KEYSPACE_EVENTS", "off")
        .with("PRESENCE_SWEEP_INTERVAL", "3s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let own = token(&with(claims("alice"), "groups", json!("own")));
    let open = async |cursor: &str| {
        let request = Stream::request(&client, "?snapshot=true").bearer_auth(&own);
        Stream::send(request.header("Last-Event-ID", cursor)).await
    };
    let ping = async || {
        let body = json!({"connectionId": "tab", "groups": ["doc"], "ttlMs": 1_000});
        let request = client.of_user("alice", "ping").bearer_auth(WRITE_KEY);
        assert_eq!(send(request.json(&body)).await.status, 200);
    };
    let has_members = async |expected: usize| {
        eventually_true("the members", async || {
            members(&client, "doc").await == expected
        })
        .await;
    };
    let body = json!({"members": ["bob"]});
    let request = client.request(Method::PUT, &path_of("doc")).json(&body);
    assert_eq!(send(request.bearer_auth(WRITE_KEY)).await.status, 200);
    let phone = client.of_user("alice", "connect").bearer_auth(WRITE_KEY);
    assert_eq!(send(phone).await.status, 200);
    ping().await;
    let request = Stream::request(&client, "?snapshot=true").bearer_auth(&own);
    let mut first = Stream::send(request).await;
    assert_eq!(first.next().await.json()["groupId"], "doc");
    let before = first.next().await;
    assert_eq!(before.name, "presence.ready");

    has_members(1).await;
    let mut stream = open(&before.id).await;
    ping().await;
    let bob = client.of_user("bob", "connect").bearer_auth(WRITE_KEY);
    assert_eq!(send(bob).await.status, 200);
    let seen = stream
        .collect_until(|event| event.brief() == "online bob")
        .await;

    has_members(1).await;
    let mut stream = open(&seen[seen.len() - 1].id).await;
    stream
        .collect_until(|event| ["group.left", "presence.reset"].contains(&&*event.name))
        .await;
}

on_both_stores!(
    a_stream_of_own_groups_has_those_whose_end_is_not_announced_yet,
    a_user_joins_only_the_groups_that_its_token_names,
    a_stream_of_own_groups_follows_the_pings,
);
