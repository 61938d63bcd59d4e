//! An unreachable store: calls get 503 and succeed later.

use std::time::Duration;

use harness::client::{Answer, Client, send, try_send};
use harness::deployment::Deployment;
use harness::groups::put;
use harness::instance::Settings;
use harness::redis_server::RedisServer;
use harness::sse::{Stream, briefs};
use harness::wait::{eventually, eventually_true};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::problem;

/// The longest wait for a 503 of a store that does not answer.
const VERDICT: Duration = Duration::from_secs(10);

fn every_call(client: &Client) -> Vec<RequestBuilder> {
    let lookup = json!({"userIds": ["alice"]});
    vec![
        client.of_user("alice", "connect"),
        client.of_user("alice", "ping"),
        client.of_connection("alice", "ping", "phone"),
        client.of_user("alice", "disconnect"),
        client.request(Method::GET, "/v1/users/alice"),
        client.request(Method::POST, "/v1/online").json(&lookup),
        client.request(Method::GET, "/v1/online"),
        client.request(Method::GET, "/v1/online/count"),
        client.request(Method::GET, "/v1/status"),
    ]
}

fn assert_unavailable(answer: &Answer, port: u16) {
    problem(answer, 503);
    let retry_after = answer.header("retry-after").parse::<u64>();
    assert!(retry_after.is_ok(), "seconds in Retry-After: {answer:?}");
    let port = port.to_string();
    for internal in ["127.0.0.1", &port, "redis", "Redis", "os error", "refused"] {
        assert!(
            !answer.body.contains(internal),
            "{internal} in {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn every_call_is_503_while_redis_is_down() {
    let mut deployment = Deployment::on_one_server(1, Settings::new()).await;
    let client = deployment.client();
    client.connect("alice").await;
    deployment.redis_mut().kill();
    let port = deployment.redis().port();
    for request in every_call(&client) {
        assert_unavailable(&send(request).await, port);
    }
    deployment.redis_mut().start_again().await;
    eventually_true("the service is back by itself", async || {
        let answer = send(client.of_user("alice", "connect")).await;
        answer.status.as_u16() == 200
    })
    .await;
    assert!(client.user("alice").await.online);
}

/// A Redis that accepts connections and does not answer is detected.
#[tokio::test]
async fn every_call_is_503_while_redis_hangs() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let client = deployment.client();
    client.connect("alice").await;
    deployment.redis().freeze();
    let asked = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for request in every_call(&client) {
        calls.spawn(try_send(request));
    }
    for answer in calls.join_all().await {
        let answer = answer.expect("an answer, not a broken connection");
        assert_unavailable(&answer, deployment.redis().port());
    }
    assert!(asked.elapsed() < VERDICT, "{:?}", asked.elapsed());
    deployment.redis().thaw();
    let found = eventually("the service is back by itself", async || {
        let answer = send(client.request(Method::GET, "/v1/users/alice")).await;
        (answer.status.as_u16() == 200).then_some(answer)
    });
    assert_eq!(found.await.ok::<harness::client::User>().user_id, "alice");
}

/// A full Redis, and a primary without the replicas that it must have.
const REFUSALS: [&str; 2] = ["maxmemory", "min-replicas-to-write"];

async fn configure(redis: &RedisServer, setting: &str, value: &str) {
    redis
        .command::<()>(&["CONFIG", "SET", setting, value])
        .await;
}

/// Each read, and what its answer contains.
fn every_read(client: &Client) -> Vec<(RequestBuilder, &'static str)> {
    let get = |path: &str| client.request(Method::GET, path);
    let list =
        |query: &str| get(&format!("/v1/events{query}")).header("Accept", "application/json");
    let lookup = json!({"userIds": ["alice", "bob"], "states": true});
    vec![
        (get("/v1/users/alice"), r#""online":true"#),
        (get("/v1/users/nobody"), r#""online":false"#),
        (
            client.request(Method::POST, "/v1/online").json(&lookup),
            r#""online":["alice"]"#,
        ),
        (get("/v1/online"), r#""online":["alice"]"#),
        (get("/v1/online/count"), r#""count":1"#),
        (get("/v1/groups/team?states=true"), r#""members":2"#),
        (get("/v1/groups/team/count"), r#""online":1"#),
        (get("/v1/status"), r#""online":1"#),
        (list("?lastEventId=earliest"), "user.online"),
        (
            list("?userIds=alice&snapshot=true"),
            r#"{"online":["alice"]}"#,
        ),
        (list("?groupIds=team&snapshot=true"), r#""members":2"#),
        (list("?groupIds=another&snapshot=true"), r#""members":0"#),
    ]
}

#[tokio::test]
async fn reads_are_answered_while_redis_refuses_writes() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    client.connect("alice").await;
    put(&client, "team", &["alice", "bob"]).await;
    for setting in REFUSALS {
        configure(redis, setting, "1").await;
        // Longer than any instance goes without a sweep. Meanwhile the sweeps fail.
        sleep(Duration::from_secs(2)).await;
        for (read, expected) in every_read(&client) {
            let answer = send(read).await;
            assert_eq!(answer.status, 200, "{setting}: {}", answer.body);
            assert!(answer.body.contains(expected), "{setting}: {}", answer.body);
        }
        let mut stream = Stream::open(&client, "?snapshot=true").await;
        assert_eq!(stream.snapshot().await, ["alice"]);
        configure(redis, setting, "0").await;
        eventually_true("calls succeed again", async || {
            send(client.of_user("bob", "connect")).await.status == 200
        })
        .await;
        assert_eq!(stream.next().await.brief(), "online bob");
        client.disconnect("bob").await;
    }
}

/// A full Redis, or a former primary, refuses writes.
#[tokio::test]
async fn a_redis_that_refuses_to_write_is_503_and_nothing_changed() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    client.connect("alice").await;
    let mut stream = Stream::open(&client, "").await;
    for setting in REFUSALS {
        configure(redis, setting, "1").await;
        let answer = send(client.of_user("bob", "connect")).await;
        assert_unavailable(&answer, redis.port());
        configure(redis, setting, "0").await;
        assert_eq!(client.everyone().await, ["alice"]);
    }
    assert!(client.connect("bob").await.became_online);
    assert_eq!(stream.next().await.brief(), "online bob");
}

#[tokio::test]
async fn scripts_are_loaded_again_after_a_script_flush() {
    let deployment = Deployment::on_one_server(1, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    deployment.redis().command::<()>(&["SCRIPT", "FLUSH"]).await;
    client.connect_as("alice", "phone").await;
    deployment.redis().command::<()>(&["SCRIPT", "FLUSH"]).await;
    assert!(!client.disconnect_as("alice", "phone").await.became_offline);
    deployment.redis().command::<()>(&["SCRIPT", "FLUSH"]).await;
    let changes = stream.changes(2).await;
    assert_eq!(briefs(&changes), ["online alice", "offline alice"]);
}
