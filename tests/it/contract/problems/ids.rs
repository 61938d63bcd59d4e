//! Invalid user and connection ids.

use harness::client::{Answer, Client, send};
use harness::deployment::{Deployment, Store, over_each_protocol};
use reqwest::Method;
use serde_json::json;

use super::problem;

/// Path segments that are not valid user ids, percent-encoded.
fn bad_user_ids() -> Vec<String> {
    let mut ids = [
        "%00",
        "a%0Ab",
        "%0D",
        "%7F",
        "tab%09",
        "%1B",
        "%FF",
        "%C3",
        "%C3%28",
        "%ED%A0%80",
        "%C2%85",
    ]
    .map(str::to_owned)
    .to_vec();
    ids.push("x".repeat(129));
    ids.push("%C3%A4".repeat(64) + "x");
    ids.push("x".repeat(10_000));
    ids
}

async fn every_call_about(client: &Client, segment: &str) -> Vec<Answer> {
    let mut answers = vec![client.get(&format!("/v1/users/{segment}")).await];
    for verb in ["connect", "ping", "disconnect"] {
        let path = format!("/v1/users/{segment}/{verb}");
        answers.push(send(client.request(Method::POST, &path)).await);
    }
    answers
}

async fn a_bad_user_id_is_400_on_every_call(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for id in bad_user_ids() {
        for answer in every_call_about(&client, &id).await {
            let problem = problem(&answer, 400);
            assert!(
                problem.detail.contains("userId"),
                "names the field: {problem:?}"
            );
        }
    }
    assert_eq!(client.count().await, 0);
}

async fn a_user_id_of_128_bytes_is_good_and_of_129_is_not(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for longest in ["x".repeat(128), "ä".repeat(64), "🦀".repeat(32)] {
        assert!(client.connect(&longest).await.became_online);
        let longer = longest + "y";
        let answer = send(client.of_user(&longer, "connect")).await;
        problem(&answer, 400);
        assert!(
            client
                .online_among(&[longer.trim_end_matches('y')])
                .await
                .len()
                == 1
        );
    }
    assert_eq!(client.count().await, 3);
}

async fn an_empty_user_id_is_refused(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for answer in every_call_about(&client, "").await {
        let status = answer.status.as_u16();
        assert!(matches!(status, 400 | 404 | 405), "{answer:?}");
        problem(&answer, status);
    }
    assert_eq!(client.count().await, 0);
}

async fn a_bad_user_id_in_a_list_is_400(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let long = "x".repeat(129);
    for id in ["", "a\nb", "\u{0}", "\u{7f}", &long] {
        let body = json!({"userIds": ["alice", id, "bob"]});
        for path in ["/v1/online", "/v1/events"] {
            let problem = problem(&client.post(path, &body).await, 400);
            assert!(
                problem.detail.contains("userId"),
                "names the field: {problem:?}"
            );
        }
    }
}

async fn a_connect_with_a_bad_connection_id_stores_nothing(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let long = "x".repeat(65);
    for connection in [
        "", " ", "a b", "a/b", "ä", "a\nb", "*", "a,b", "{}", "a\"b", "\u{0}", &long,
    ] {
        for verb in ["connect", "ping", "disconnect"] {
            let answer = send(client.of_connection("alice", verb, connection)).await;
            let problem = problem(&answer, 400);
            assert!(
                problem.detail.contains("connectionId"),
                "names the field: {problem:?}"
            );
        }
    }
    assert!(!client.user("alice").await.online);
    assert_eq!(client.count().await, 0);
}

async fn a_disconnect_with_a_bad_connection_id_changes_nothing(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    problem(
        &send(client.of_connection("alice", "disconnect", "*")).await,
        400,
    );
    let both = json!({"all": "yes"});
    problem(
        &send(client.of_user("alice", "disconnect").json(&both)).await,
        400,
    );
    assert!(client.user("alice").await.online);
}

#[tokio::test]
async fn bad_input_leaves_no_key_in_redis() {
    let deployment = Deployment::on_one_server(1, harness::instance::Settings::new()).await;
    let client = deployment.client();
    client.connect("before").await;
    // The keys of users and groups. The instance writes keys of its own at any time, without another colon.
    let of_somebody = deployment.names().pattern("*:*");
    let keys = ["KEYS", &of_somebody];
    let before: Vec<String> = deployment.redis().command(&keys).await;
    assert_eq!(before, [deployment.names().of_user("user", "before")]);
    for id in bad_user_ids() {
        every_call_about(&client, &id).await;
    }
    for body in ["{", "{\"connectionId\":\"a b\"}", "[1]"] {
        send(client.of_user("alice", "connect").body(body)).await;
        send(client.of_user("alice", "ping").body(body)).await;
    }
    let after: Vec<String> = deployment.redis().command(&keys).await;
    assert_eq!(after, before);
}

over_each_protocol!(
    a_bad_user_id_is_400_on_every_call,
    a_user_id_of_128_bytes_is_good_and_of_129_is_not,
    an_empty_user_id_is_refused,
    a_bad_user_id_in_a_list_is_400,
    a_connect_with_a_bad_connection_id_stores_nothing,
    a_disconnect_with_a_bad_connection_id_changes_nothing,
);
