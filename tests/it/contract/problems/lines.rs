//! Each JSON body ends with a newline, so that a terminal shows its prompt on the next line.

use harness::client::{media_type, send};
use harness::deployment::{Deployment, Store, over_each_protocol};
use reqwest::Method;
use serde_json::{Value, json};

async fn every_json_body_ends_with_one_newline(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let ids = json!({"userIds": ["alice"]});
    let answers = [
        client.post("/v1/users/alice/connect", &json!({})).await,
        client.post("/v1/users/alice/ping", &json!({})).await,
        client.get("/v1/users/alice").await,
        client.post("/v1/online", &ids).await,
        client.get("/v1/online").await,
        client.get("/v1/online/count").await,
        client.post("/v1/users/alice/disconnect", &json!({})).await,
        client.get("/livez").await,
        client.get("/readyz").await,
        client.get("/openapi.json").await,
        client.get("/v1/nothing").await,
        client.get("/v1/users/%00").await,
        client.post("/v1/users/%00/ping", &json!({})).await,
        send(client.request(Method::DELETE, "/v1/online")).await,
        send(client.request(Method::POST, "/v1/online").body("{}")).await,
    ];
    for answer in answers {
        assert!(media_type(&answer.headers).ends_with("json"), "{answer:?}");
        let line = answer.body.strip_suffix('\n');
        let line = line.unwrap_or_else(|| panic!("no newline: {answer:?}"));
        assert!(!line.ends_with(['\n', '\r']), "{answer:?}");
        serde_json::from_str::<Value>(line).expect("JSON");
    }
}

over_each_protocol!(every_json_body_ends_with_one_newline);
