//! Unknown fields and parameters are refused by name, and the call changes nothing.

use harness::client::{Client, send};
use harness::deployment::{Deployment, Store, over_each_protocol};
use reqwest::Method;
use serde_json::{Value, json};

use super::problem;

/// Method and path of each `/v1` operation, for the user `alice`.
async fn operations(client: &Client) -> Vec<(Method, String)> {
    let document: Value = client.get("/openapi.json").await.ok();
    let paths = document["paths"].as_object().expect("paths");
    let calls = paths.iter().filter(|(path, _)| path.starts_with("/v1/"));
    let operations = calls.flat_map(|(path, operations)| {
        let path = path
            .replace("{userId}", "alice")
            .replace("{groupId}", "team");
        let methods = operations.as_object().expect("operations").keys();
        let method = |name: &String| name.to_uppercase().parse().expect("a method");
        methods.map(move |name| (method(name), path.clone()))
    });
    let operations: Vec<_> = operations.collect();
    assert!(operations.len() >= 9, "{operations:?}");
    operations
}

async fn an_unknown_parameter_is_refused_by_every_call(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for (method, path) in operations(&client).await {
        for name in ["x", "userIds[]", "user_ids", "_", "Limit"] {
            let request = client.request(method.clone(), &format!("{path}?{name}=alice"));
            let body = json!({"userIds": ["alice"]});
            let request = match path.matches('/').count() {
                2 if method == Method::POST => request.json(&body),
                _ => request,
            };
            let problem = problem(&send(request).await, 400);
            assert!(
                problem.detail.contains(name),
                "{method} {path}: {problem:?}"
            );
        }
    }
    assert_eq!(client.count().await, 0);
}

async fn an_unknown_field_is_refused_by_every_call(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for (method, path) in operations(&client).await {
        for name in ["x", "connection_id", "ConnectionId", "userids", "userIds[]"] {
            let request = client.request(method.clone(), &path);
            let request = request.json(&json!({name: "phone"}));
            let problem = problem(&send(request).await, 400);
            assert!(
                problem.detail.contains(name),
                "{method} {path}: {problem:?}"
            );
        }
    }
    assert_eq!(client.count().await, 0);
}

/// A field of one call or one place is unknown in another.
async fn a_field_of_another_call_is_refused(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for (target, name) in [
        ("GET /v1/online?userIds=alice", "userIds"),
        ("GET /v1/online?limit=1&snapshot=true", "snapshot"),
        ("GET /v1/online/count?limit=1", "limit"),
        ("GET /v1/users/alice?connectionId=phone", "connectionId"),
        (
            "POST /v1/users/alice/ping?connectionId=phone",
            "connectionId",
        ),
        ("POST /v1/users/alice/disconnect?all=true", "all"),
        ("GET /v1/events?userids=alice", "userids"),
        (
            "GET /v1/events?userIds%5B%5D=alice&userIds%5B%5D=bob",
            "userIds[]",
        ),
        ("GET /v1/events?userIds=alice&snapshots=true", "snapshots"),
        ("GET /v1/events?Last-Event-ID=1", "Last-Event-ID"),
        ("GET /v1/users/alice?access_token=x", "access_token"),
    ] {
        let (method, path) = target.split_once(' ').expect("a method");
        let method: Method = method.parse().expect("a method");
        let answer = send(client.request(method, path)).await;
        let problem = problem(&answer, 400);
        assert!(problem.detail.contains(name), "{target}: {problem:?}");
    }
    for (path, body, name) in [
        ("/v1/events?userIds=alice", json!({}), "userIds"),
        ("/v1/events?snapshot=true", json!({}), "snapshot"),
        ("/v1/events", json!({"lastEventId": "x"}), "lastEventId"),
        ("/v1/online", json!({"userIds": ["a"], "limit": 5}), "limit"),
        ("/v1/users/alice/connect", json!({"all": true}), "all"),
    ] {
        let problem = problem(&client.post(path, &body).await, 400);
        assert!(problem.detail.contains(name), "{path}: {problem:?}");
    }
    assert_eq!(client.count().await, 0);
}

async fn a_call_without_a_body_refuses_one_with_content(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for path in ["/v1/online", "/v1/online/count", "/v1/users/alice"] {
        let with = |body: &'static str| client.request(Method::GET, path).body(body);
        for body in ["", "{}", "null"] {
            let answer = send(with(body)).await;
            assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.body);
        }
        problem(&send(with("alice")).await, 400);
    }
    let request = client.request(Method::GET, "/v1/events");
    let request = request.json(&json!({"userIds": ["alice"]}));
    let problem = problem(&send(request).await, 400);
    assert!(problem.detail.contains("userIds"), "{problem:?}");
}

async fn a_repeated_parameter_is_refused(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for (path, name) in [
        ("/v1/events?snapshot=true&snapshot=false", "snapshot"),
        ("/v1/events?lastEventId=a&lastEventId=b", "lastEventId"),
        ("/v1/online?limit=1&limit=2", "limit"),
        ("/v1/online?cursor=a&cursor=b", "cursor"),
    ] {
        let problem = problem(&client.get(path).await, 400);
        assert!(problem.detail.contains(name), "{path}: {problem:?}");
    }
    let twice = r#"{"connectionId":"a","connectionId":"b"}"#;
    let answer = send(client.of_user("alice", "connect").body(twice)).await;
    let problem = problem(&answer, 400);
    assert!(problem.detail.contains("connectionId"), "{problem:?}");
}

over_each_protocol!(
    an_unknown_parameter_is_refused_by_every_call,
    an_unknown_field_is_refused_by_every_call,
    a_field_of_another_call_is_refused,
    a_call_without_a_body_refuses_one_with_content,
    a_repeated_parameter_is_refused,
);
