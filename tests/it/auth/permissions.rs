//! The permissions of each kind of caller.

use harness::client::{Answer, Client, send};
use harness::deployment::{Deployment, Store, on_both_stores};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    READ_KEY, WRITE_KEY, assert_refused, call, claims, instance_with_credentials, metric, ping,
    settings_with_credentials, token, with,
};

/// Every call that requires a permission. Calls about one user are about `alice`.
const CALLS: [(&str, &str, Option<&str>); 10] = [
    ("POST", "/v1/users/alice/connect", None),
    ("POST", "/v1/users/alice/ping", None),
    ("POST", "/v1/users/alice/disconnect", None),
    ("GET", "/v1/users/alice", None),
    ("POST", "/v1/online", Some(r#"{"userIds":["alice"]}"#)),
    ("GET", "/v1/online", None),
    ("GET", "/v1/online/count", None),
    ("GET", "/v1/events?lastEventId=x", None),
    ("POST", "/v1/events", Some("{}")),
    ("GET", "/v1/status", None),
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
    // A stream does not end, so its body is not read.
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let body = if status.is_success() {
        String::new()
    } else {
        response.text().await.expect("a body")
    };
    Answer {
        status,
        headers,
        body,
    }
}

/// The callers: a name, a credential, and the expected status of each call.
fn callers() -> [(&'static str, Option<String>, [u16; CALLS.len()]); 10] {
    let bob_watching = |watch: Value| token(&with(claims("bob"), "watch", watch));
    [
        ("no credential", None, [401; 10]),
        (
            "alice",
            Some(token(&claims("alice"))),
            [200, 200, 200, 200, 200, 403, 403, 403, 403, 403],
        ),
        ("bob", Some(token(&claims("bob"))), [403; 10]),
        (
            "bob with an empty watch list",
            Some(bob_watching(json!([]))),
            [403; 10],
        ),
        (
            "bob who watches carol",
            Some(bob_watching(json!(["carol"]))),
            [403; 10],
        ),
        (
            "bob who watches alice",
            Some(bob_watching(json!(["carol", "alice"]))),
            [403, 403, 403, 200, 200, 403, 403, 403, 403, 403],
        ),
        (
            "bob who watches all users",
            Some(bob_watching(json!("*"))),
            [403, 403, 403, 200, 200, 200, 200, 200, 200, 403],
        ),
        (
            "bob who watches a user named *",
            Some(bob_watching(json!(["*"]))),
            [403; 10],
        ),
        (
            "a key with presence.read",
            Some(READ_KEY.to_owned()),
            [403, 403, 403, 200, 200, 200, 200, 200, 200, 200],
        ),
        (
            "a key with presence.write",
            Some(WRITE_KEY.to_owned()),
            [200, 200, 200, 403, 403, 403, 403, 403, 403, 403],
        ),
    ]
}

async fn each_caller_may_make_exactly_its_calls(store: Store) {
    let deployment = Deployment::with(
        store,
        settings_with_credentials().with("PRESENCE_RATE_LIMIT", "off"),
    )
    .await;
    let client = deployment.client();
    for (caller, credential, expected) in callers() {
        for (each, expected) in CALLS.into_iter().zip(expected) {
            let answer = status(&client, each, credential.as_deref()).await;
            let what = format!("{caller}: {} {}", each.0, each.1);
            match expected {
                200 => assert_eq!(answer.status, 200, "{what}: {}", answer.body),
                _ => drop(assert_refused(&answer, expected, &what)),
            }
        }
    }
}

#[tokio::test]
async fn an_error_names_the_first_user_that_the_caller_may_not_see() {
    let instance = instance_with_credentials().await;
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
async fn a_token_is_valid_for_its_own_user_only() {
    let instance = instance_with_credentials().await;
    let client = instance.client();
    let (alice, bob) = (token(&claims("alice")), token(&claims("bob")));
    assert_eq!(ping(&client, "alice", &alice).await.status, 200);
    let leave = client
        .of_user("alice", "disconnect")
        .json(&json!({"all": true}));
    assert_refused(
        &send(leave.bearer_auth(&bob)).await,
        403,
        "the token of another user",
    );
    let me = call(&client, Method::GET, "/v1/users/alice", &alice).await;
    assert_eq!(me.ok::<Value>()["online"], true);
    // The decoded id must be equal, byte for byte.
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
async fn the_credential_is_checked_before_the_request() {
    let instance = instance_with_credentials().await;
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
    let instance = instance_with_credentials().await;
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
    assert_eq!(verified().await, 2, "only valid tokens count as verified");
}

#[tokio::test]
async fn a_cached_token_expires() {
    let instance = instance_with_credentials().await;
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

on_both_stores!(each_caller_may_make_exactly_its_calls);
