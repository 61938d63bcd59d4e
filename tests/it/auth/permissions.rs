//! What each kind of caller may do.

use harness::client::{Answer, Client, send};
use harness::cluster::{Cluster, Store, on_both_stores};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    READ_KEY, WRITE_KEY, assert_refused, call, claims, closed, closed_instance, metric, ping,
    token, with,
};

/// Every call of the contract that needs a right, about the user `alice` where it is about one.
const CALLS: [(&str, &str, Option<&str>); 9] = [
    ("POST", "/v1/users/alice/connect", None),
    ("POST", "/v1/users/alice/ping", None),
    ("POST", "/v1/users/alice/disconnect", None),
    ("GET", "/v1/users/alice", None),
    ("POST", "/v1/online", Some(r#"{"userIds":["alice"]}"#)),
    ("GET", "/v1/online", None),
    ("GET", "/v1/online/count", None),
    ("GET", "/v1/events?lastEventId=x", None),
    ("POST", "/v1/events", Some("{}")),
];

async fn status(
    client: &Client,
    each: (&str, &str, Option<&str>),
    credential: Option<&str>,
) -> Answer {
    let (method, path, body) = each;
    let method: Method = method.parse().expect("a method");
    let mut request = client.request(method, path);
    if let Some(body) = body {
        request = request
            .header("Content-Type", "application/json")
            .body(body.to_owned());
    }
    if let Some(credential) = credential {
        request = request.bearer_auth(credential);
    }
    if !path.starts_with("/v1/events") {
        return send(request).await;
    }
    // A stream has no end that one could wait for.
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let body = match status.is_success() {
        true => String::new(),
        false => response.text().await.expect("a body"),
    };
    Answer {
        status,
        headers,
        body,
    }
}

async fn everyone_gets_what_is_theirs(store: Store) {
    let cluster = Cluster::with(store, closed().with("PRESENCE_RATE_LIMIT", "off")).await;
    let client = cluster.client();
    let watching = |watch: Value| token(&with(claims("bob"), "watch", watch));
    let callers = [
        ("nobody", None, [401; 9]),
        (
            "alice",
            Some(token(&claims("alice"))),
            [200, 200, 200, 200, 200, 403, 403, 403, 403],
        ),
        ("bob", Some(token(&claims("bob"))), [403; 9]),
        (
            "bob, who watches nobody",
            Some(watching(json!([]))),
            [403; 9],
        ),
        (
            "bob, who watches carol",
            Some(watching(json!(["carol"]))),
            [403; 9],
        ),
        (
            "bob, who watches alice",
            Some(watching(json!(["carol", "alice"]))),
            [403, 403, 403, 200, 200, 403, 403, 403, 403],
        ),
        (
            "bob, who watches everyone",
            Some(watching(json!("*"))),
            [403, 403, 403, 200, 200, 200, 200, 200, 200],
        ),
        (
            "bob, who watches a user called *",
            Some(watching(json!(["*"]))),
            [403; 9],
        ),
        (
            "a key to read",
            Some(READ_KEY.to_owned()),
            [403, 403, 403, 200, 200, 200, 200, 200, 200],
        ),
        (
            "a key to write",
            Some(WRITE_KEY.to_owned()),
            [200, 200, 200, 403, 403, 403, 403, 403, 403],
        ),
    ];
    for (who, credential, expected) in callers {
        for (each, expected) in CALLS.into_iter().zip(expected) {
            let answer = status(&client, each, credential.as_deref()).await;
            let what = format!("{who}: {} {}", each.0, each.1);
            match expected {
                200 => assert_eq!(answer.status, 200, "{what}: {}", answer.body),
                _ => drop(assert_refused(&answer, expected, &what)),
            }
        }
    }
}

#[tokio::test]
async fn a_look_up_names_the_first_who_may_not_be_seen() {
    let instance = closed_instance().await;
    let client = instance.client();
    let bob = token(&with(claims("bob"), "watch", json!(["alice"])));
    for path in ["/v1/online", "/v1/events"] {
        let body = json!({"userIds": ["bob", "alice", "dave", "carol"]});
        let request = client.request(Method::POST, path).json(&body);
        let problem = assert_refused(&send(request.bearer_auth(&bob)).await, 403, path);
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(
            detail.contains("dave") && !detail.contains("carol"),
            "{detail}"
        );
    }
    let answer = call(&client, Method::GET, "/v1/events?userIds=bob,erin", &bob).await;
    let problem = assert_refused(&answer, 403, "a stream by query");
    assert!(
        problem["detail"]
            .as_str()
            .expect("a detail")
            .contains("erin")
    );
}

#[tokio::test]
async fn nothing_is_done_for_the_wrong_user() {
    let instance = closed_instance().await;
    let client = instance.client();
    let (alice, bob) = (token(&claims("alice")), token(&claims("bob")));
    assert_eq!(ping(&client, "alice", &alice).await.status, 200);
    let leave = client
        .of_user("alice", "disconnect")
        .json(&json!({"all": true}));
    assert_refused(&send(leave.bearer_auth(&bob)).await, 403, "another's");
    let me = call(&client, Method::GET, "/v1/users/alice", &alice).await;
    assert_eq!(me.ok::<Value>()["online"], true);
    // An id is compared as it is, after decoding.
    for other in ["Alice", "alice%20", "%61lice%00", "alic%C3%A9"] {
        let path = format!("/v1/users/{other}/ping");
        let answer = call(&client, Method::POST, &path, &alice).await;
        assert!(
            matches!(answer.status.as_u16(), 400 | 403),
            "{other}: {}",
            answer.status
        );
    }
    let encoded = call(&client, Method::POST, "/v1/users/%61lice/ping", &alice).await;
    assert_eq!(encoded.status, 200);
}

#[tokio::test]
async fn who_calls_comes_before_what_is_asked() {
    let instance = closed_instance().await;
    let client = instance.client();
    for (path, body) in [
        ("/v1/online", "{"),
        ("/v1/users/alice/ping", "nonsense"),
        ("/v1/events", ""),
    ] {
        let request = client.request(Method::POST, path).body(body);
        assert_refused(&send(request).await, 401, path);
    }
    assert_refused(&client.get("/v1/users/%00").await, 401, "a bad id");
    assert_eq!(client.get("/nothing").await.status, 404);
    for open in ["/livez", "/readyz", "/openapi.json", "/docs/", "/metrics"] {
        let answer = client.get(open).await;
        assert_eq!(answer.status, 200, "{open}");
        let answer = call(&client, Method::GET, open, "nonsense").await;
        assert_eq!(answer.status, 200, "{open} with a bad credential");
    }
}

#[tokio::test]
async fn a_token_is_verified_once() {
    let instance = closed_instance().await;
    let client = instance.client();
    let (alice, bob) = (token(&claims("alice")), token(&claims("bob")));
    let verified = async || metric(&client, "presence_tokens_verified_total").await;
    assert_eq!(verified().await, 0);
    for _ in 0..5 {
        assert_eq!(ping(&client, "alice", &alice).await.status, 200);
    }
    assert_eq!(verified().await, 1);
    assert_eq!(ping(&client, "bob", &bob).await.status, 200);
    assert_eq!(ping(&client, "alice", &alice).await.status, 200);
    assert_eq!(verified().await, 2);
    assert_refused(&ping(&client, "alice", "forged").await, 401, "forged");
    assert_eq!(ping(&client, "alice", READ_KEY).await.status, 403);
    assert_eq!(verified().await, 2, "neither is a token that was verified");
}

#[tokio::test]
async fn a_remembered_token_expires() {
    let instance = closed_instance().await;
    let client = instance.client();
    let short = token(&with(claims("alice"), "exp", json!(super::now() + 2)));
    assert_eq!(ping(&client, "alice", &short).await.status, 200);
    harness::wait::eventually_true("the token expires", async || {
        ping(&client, "alice", &short).await.status == 401
    })
    .await;
    let answer = ping(&client, "alice", &short).await;
    let problem = assert_refused(&answer, 401, "expired");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|why| why.contains("expired")),
        "{problem}"
    );
}

on_both_stores!(everyone_gets_what_is_theirs);
