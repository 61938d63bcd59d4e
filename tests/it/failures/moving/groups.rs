//! Calls about groups.

use harness::client::{Client, send};
use reqwest::Method;
use serde_json::Value;

pub(super) async fn write(client: &Client, method: Method, group: &str, body: Value) {
    let mut request = client.request(method, &format!("/v1/groups/{group}"));
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = send(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The number of members, and the online members.
pub(super) async fn read(client: &Client, group: &str) -> (u64, Vec<String>) {
    let answer: Value = client.get(&format!("/v1/groups/{group}")).await.ok();
    let online = answer["online"].as_array().expect("a list").iter();
    let online = online.map(|user| user.as_str().expect("an id").to_owned());
    (
        answer["members"].as_u64().expect("a number"),
        online.collect(),
    )
}
