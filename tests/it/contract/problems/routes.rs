//! Unknown routes and methods, and the problem types.

use std::collections::BTreeSet;

use harness::client::{crowd, send};
use harness::deployment::{Deployment, Store, over_each_protocol};
use reqwest::Method;
use serde_json::json;

use super::problem;

async fn an_unknown_route_is_404(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for path in [
        "/nothing",
        "/v1",
        "/v1/nothing",
        "/v1/users/alice/leave",
        "/v1/users/alice/connect/2",
        "/v2/online",
        "/v1/online/count/1",
    ] {
        problem(&client.get(path).await, 404);
        problem(&client.post(path, &json!({})).await, 404);
    }
}

async fn an_unknown_method_is_405_with_the_allowed_ones(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for (method, path, allowed) in [
        (Method::GET, "/v1/users/alice/connect", "POST"),
        (Method::PUT, "/v1/users/alice/ping", "POST"),
        (Method::DELETE, "/v1/users/alice/disconnect", "POST"),
        (Method::POST, "/v1/users/alice", "GET"),
        (Method::DELETE, "/v1/users/alice", "GET"),
        (Method::PUT, "/v1/online", "GET"),
        (Method::PUT, "/v1/online", "POST"),
        (Method::POST, "/v1/online/count", "GET"),
        (Method::DELETE, "/v1/events", "GET"),
        (Method::PATCH, "/v1/events", "POST"),
        (Method::POST, "/livez", "GET"),
        (Method::POST, "/openapi.json", "GET"),
    ] {
        let answer = send(client.request(method.clone(), path)).await;
        problem(&answer, 405);
        let allow: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        assert!(allow.contains(&allowed), "{method} {path}: {allow:?}");
        assert!(
            !allow.contains(&method.as_str()),
            "{method} {path}: {allow:?}"
        );
    }
    assert_eq!(client.count().await, 0);
}

/// Clients switch on `type`: a cause has the same type everywhere, and no other cause has it.
async fn each_cause_has_one_problem_type(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let many = json!({"userIds": crowd("user", 1_001)});
    let very_many = json!({"userIds": crowd("user", 10_001)});
    let bad_id = json!({"userIds": [""]});
    let causes = [
        vec![
            client.get("/v1/users/%00").await,
            client.post("/v1/online", &bad_id).await,
            client.post("/v1/users/%00/ping", &json!({})).await,
        ],
        vec![
            client.get("/v1/online?limit=0").await,
            client.get("/v1/online?limit=x").await,
        ],
        vec![client.get("/v1/online?cursor=nonsense").await],
        vec![
            client.post("/v1/online", &json!([])).await,
            client.post("/v1/users/a/connect", &json!([])).await,
        ],
        vec![
            client.post("/v1/online", &many).await,
            client.post("/v1/events", &very_many).await,
        ],
        vec![client.get("/nothing").await, client.get("/v1/users").await],
        vec![
            client.get("/v1/users/alice/ping").await,
            client.post("/v1/online/count", &json!({})).await,
        ],
        vec![send(client.of_user("a", "ping").body(" ".repeat(70_000))).await],
        vec![send(client.request(Method::POST, "/v1/online").body("{}")).await],
    ];
    let mut kinds = BTreeSet::new();
    for answers in &causes {
        let of_cause: BTreeSet<String> = answers
            .iter()
            .map(|answer| problem(answer, answer.status.as_u16()).kind)
            .collect();
        assert_eq!(of_cause.len(), 1, "one cause, one type: {answers:?}");
        kinds.extend(of_cause);
    }
    assert_eq!(kinds.len(), causes.len(), "{kinds:?}");
}

over_each_protocol!(
    an_unknown_route_is_404,
    an_unknown_method_is_405_with_the_allowed_ones,
    each_cause_has_one_problem_type,
);
