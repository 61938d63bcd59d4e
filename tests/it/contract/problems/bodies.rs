//! Bodies that are not JSON, not the right JSON, or too long.

use harness::client::{Answer, Client, Protocol, crowd, send};
use harness::deployment::{Deployment, Store, over_each_protocol};
use reqwest::Method;
use serde_json::json;

use super::problem;

/// Bodies that are not JSON, or not an object with the documented fields.
const BAD: [&str; 13] = [
    "{",
    "nonsense",
    "{\"connectionId\":}",
    "{\"userIds\":[\"alice\"]",
    "[]",
    "\"alice\"",
    "5",
    "{\"connectionId\":5,\"userIds\":5,\"all\":5}",
    "{\"connectionId\":[\"a\"],\"userIds\":\"alice\"}",
    "{\"connectionId\":{},\"userIds\":{}}",
    "{\"connectionId\":true,\"userIds\":[1]}",
    "{\"connectionId\":false,\"userIds\":[null]}",
    "{} {\"userIds\":[\"alice\"]}",
];

async fn post_json(client: &Client, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = client.request(Method::POST, path).body(body);
    send(request.header("content-type", "application/json")).await
}

async fn bad_json_is_400_and_nothing_is_done(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("bob").await;
    for body in BAD {
        for verb in ["connect", "ping"] {
            let path = format!("/v1/users/alice/{verb}");
            problem(&post_json(&client, &path, body).await, 400);
        }
        problem(
            &post_json(&client, "/v1/users/bob/disconnect", body).await,
            400,
        );
        problem(&post_json(&client, "/v1/online", body).await, 400);
        problem(&post_json(&client, "/v1/events", body).await, 400);
    }
    assert_eq!(client.everyone().await, ["bob"]);
}

async fn json_that_is_not_utf_8_or_too_deep_is_400(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let deep = "[".repeat(15_000) + &"]".repeat(15_000);
    let bodies = [
        b"{\"connectionId\":\"\xff\",\"userIds\":[\"\xff\"]}".to_vec(),
        b"\xef\xbb\xbf{".to_vec(),
        format!("{{\"userIds\":{deep},\"connectionId\":{deep}}}").into_bytes(),
        deep.into_bytes(),
    ];
    for body in bodies {
        for path in ["/v1/users/alice/connect", "/v1/online", "/v1/events"] {
            problem(&post_json(&client, path, body.clone()).await, 400);
        }
    }
    assert_eq!(client.count().await, 0);
}

async fn an_empty_or_too_long_list_of_ids_is_400(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for (path, body) in [
        ("/v1/online", json!({"userIds": []})),
        ("/v1/online", json!({})),
        ("/v1/online", json!({"userIds": null})),
        ("/v1/online", json!({"userIds": crowd("user", 1_001)})),
        ("/v1/events", json!({"userIds": crowd("user", 10_001)})),
        // A list that a client has not loaded yet must not mean everyone.
        ("/v1/events", json!({"userIds": null})),
    ] {
        let problem = problem(&client.post(path, &body).await, 400);
        assert!(
            problem.detail.contains("userIds"),
            "names the field: {problem:?}"
        );
    }
}

async fn json_is_required_where_the_contract_says_so(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for path in ["/v1/online", "/v1/events"] {
        for media_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "json",
        ] {
            let request = client
                .request(Method::POST, path)
                .header("content-type", media_type);
            problem(&send(request.body(r#"{"userIds":["alice"]}"#)).await, 415);
        }
        let untyped = client.request(Method::POST, path);
        problem(&send(untyped.body(r#"{"userIds":["alice"]}"#)).await, 415);
    }
}

async fn json_media_types_with_a_charset_or_capitals_are_accepted(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for media_type in ["application/json; charset=utf-8", "Application/JSON"] {
        let request = client
            .request(Method::POST, "/v1/online")
            .header("content-type", media_type);
        let answer = send(request.body(r#"{"userIds":["alice"]}"#)).await;
        assert_eq!(answer.status.as_u16(), 200, "{media_type}");
    }
}

/// `json` with spaces up to `length` bytes.
fn padded(json: &str, length: usize) -> String {
    format!("{json}{}", " ".repeat(length - json.len()))
}

async fn a_body_over_64_kib_is_413(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let body = r#"{"connectionId":"phone"}"#;
    for verb in ["connect", "ping", "disconnect"] {
        let path = format!("/v1/users/alice/{verb}");
        let fits = post_json(&client, &path, padded(body, 65_536)).await;
        assert_eq!(fits.status.as_u16(), 200, "{verb}");
    }
    for verb in ["connect", "ping", "disconnect"] {
        let path = format!("/v1/users/alice/{verb}");
        problem(&post_json(&client, &path, padded(body, 65_537)).await, 413);
    }
    assert!(!client.user("alice").await.online);
}

async fn a_list_of_ids_may_take_1_mib(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let body = r#"{"userIds":["alice"]}"#;
    let fits = post_json(&client, "/v1/online", padded(body, 1_048_576)).await;
    assert_eq!(fits.status.as_u16(), 200);
    for path in ["/v1/online", "/v1/events"] {
        problem(
            &post_json(&client, path, padded(body, 1_048_577)).await,
            413,
        );
    }
}

/// The refusal names the field, and does not send a large body back.
async fn a_refusal_of_long_names_and_values_is_short(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let long = "\u{1}".repeat(10_000);
    for (path, body) in [
        ("/v1/users/alice/connect", json!({"connectionId": [long]})),
        ("/v1/users/alice/disconnect", json!({"all": long})),
        ("/v1/users/alice/ping", json!({&*long: 1})),
        ("/v1/online", json!({"userIds": long})),
        ("/v1/events", json!({&*long: {&*long: 1}})),
    ] {
        let answer = client.post(path, &body).await;
        let refused = problem(&answer, 400);
        assert!(answer.body.len() < 2_048, "{path}: {}", answer.body.len());
        assert!(refused.detail.contains("line 1"), "{path}: {refused:?}");
    }
}

async fn a_refusal_names_the_body_when_no_field_is_wrong(store: Store) {
    let deployment = Deployment::start(store).await;
    for body in [
        r#"{"connectionId":"a",}"#,
        "{'connectionId':'a'}",
        r#"{"":1}"#,
    ] {
        let answer = post_json(&deployment.client(), "/v1/users/alice/ping", body).await;
        let refused = problem(&answer, 400);
        let name = refused.detail.split(": ").next();
        assert!(
            matches!(name, Some("body" | "\"\"")),
            "{body}: {}",
            refused.detail
        );
    }
}

/// A body without a length in its head.
async fn a_body_in_chunks_is_limited_too(store: Store) {
    if store == Store::EmbeddedOver(Protocol::Http10) {
        // HTTP/1.0 has no chunked bodies.
        return;
    }
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for (path, chunks) in [("/v1/users/alice/connect", 20), ("/v1/online", 300)] {
        let chunk = || Ok::<_, std::io::Error>(" ".repeat(4_096));
        let chunks = tokio_stream::iter((0..chunks).map(move |_| chunk()));
        let body = reqwest::Body::wrap_stream(chunks);
        problem(&post_json(&client, path, body).await, 413);
    }
    assert_eq!(client.count().await, 0);
}

over_each_protocol!(
    bad_json_is_400_and_nothing_is_done,
    json_that_is_not_utf_8_or_too_deep_is_400,
    an_empty_or_too_long_list_of_ids_is_400,
    json_is_required_where_the_contract_says_so,
    json_media_types_with_a_charset_or_capitals_are_accepted,
    a_body_over_64_kib_is_413,
    a_list_of_ids_may_take_1_mib,
    a_refusal_of_long_names_and_values_is_short,
    a_refusal_names_the_body_when_no_field_is_wrong,
    a_body_in_chunks_is_limited_too,
);
