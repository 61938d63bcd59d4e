//! Streams that cannot be opened now. `EventSource` in a browser never reconnects after a status other than 200, so a
//! browser gets a short stream. Every other client gets the problem document.

use harness::client::{Answer, Client, media_type, send};
use harness::deployment::Deployment;
use harness::instance::{Instance, Settings};
use harness::sse::Stream;
use harness::wait::eventually_true;
use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::problem;

const READ_KEY: &str = "a:presence.read:0123456789abcdef";

/// Adds the headers of a browser.
fn by_browser(request: RequestBuilder) -> RequestBuilder {
    request.header(ACCEPT, "text/event-stream")
}

fn requests(client: &Client) -> Vec<RequestBuilder> {
    let of_some = client.request(Method::POST, "/v1/events");
    vec![
        Stream::request(client, ""),
        Stream::request(client, "?userIds=alice&snapshot=true"),
        of_some.json(&json!({"userIds": ["alice"]})),
    ]
}

/// Checks that a short stream names `reason`, and returns its reconnection time in milliseconds.
fn assert_told_by_a_stream(answer: &Answer, reason: &str) -> u64 {
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(media_type(&answer.headers), "text/event-stream");
    assert_eq!(answer.header("cache-control"), "no-store, no-transform");
    let lines: Vec<_> = answer.body.lines().collect();
    let data = format!("data: {{\"reason\":\"{reason}\"}}");
    assert_eq!(lines[1..], ["event: presence.end", &data, ""], "{answer:?}");
    let retry = lines[0]
        .strip_prefix("retry: ")
        .and_then(|ms| ms.parse().ok());
    let retry = retry.unwrap_or_else(|| panic!("no time to come back: {answer:?}"));
    assert!((2_000..=20_000).contains(&retry), "{retry} ms");
    retry
}

#[tokio::test]
async fn a_browser_reconnects_after_a_refusal_for_an_unreachable_store() {
    let mut deployment = Deployment::on_one_server(1, Settings::new()).await;
    let client = deployment.client();
    deployment.redis_mut().kill();
    eventually_true("the loss is noticed", async || {
        send(client.of_user("alice", "ping")).await.status == 503
    })
    .await;
    let mut retries = Vec::new();
    for request in requests(&client).into_iter().chain(requests(&client)) {
        let answer = send(by_browser(request)).await;
        retries.push(assert_told_by_a_stream(&answer, "store-unreachable"));
    }
    retries.dedup();
    assert!(
        retries.len() > 1,
        "many clients come back apart: {retries:?}"
    );
    for request in requests(&client) {
        problem(&send(request).await, 503);
    }
    deployment.redis_mut().start_again().await;
    eventually_true("a browser has its stream again", async || {
        let request = by_browser(Stream::request(&client, ""));
        let response = request.send().await.expect("an answer");
        !response.headers().contains_key("content-length")
    })
    .await;
}

#[tokio::test]
async fn a_browser_reconnects_after_a_refusal_for_too_many_streams() {
    let settings = Settings::new().with("PRESENCE_STREAMS", "1");
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let _stream = Stream::open(&client, "").await;
    for request in requests(&client) {
        let answer = send(by_browser(request)).await;
        assert_told_by_a_stream(&answer, "too-many-streams");
    }
    for request in requests(&client) {
        problem(&send(request).await, 429);
    }
}

#[tokio::test]
async fn a_permanent_refusal_of_a_stream_keeps_its_status() {
    let settings = Settings::new().with("PRESENCE_API_KEYS", READ_KEY);
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let by_browser = |query: &str| by_browser(Stream::request(&client, query));
    problem(&send(by_browser("")).await, 401);
    problem(&send(by_browser("?access_token=wrong")).await, 401);
    let key = "0123456789abcdef";
    let good = by_browser(&format!("?snapshot=maybe&access_token={key}"));
    problem(&send(good).await, 400);
    let elsewhere = client
        .request(Method::GET, "/v1/online")
        .header(ACCEPT, "text/event-stream");
    problem(&send(elsewhere).await, 401);
}
