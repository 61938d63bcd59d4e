//! The service as an AWS Lambda function: behind the emulator of `cargo lambda watch`, and behind a runtime API of the
//! test where the emulator differs from AWS.

mod emulator;
mod runtime_api;

use harness::client::{Answer, Client, send};
use harness::instance::{Instance, Settings};
use harness::process::Process;
use harness::redis_server::RedisServer;
use harness::sse::Stream;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use emulator::Emulator;
use runtime_api::{RuntimeApi, event};

use super::webhooks::receiver::{Conduct, Received, Receiver};

const KEY: &str = "a-key-of-a-back-end";

/// The settings of a function with one API key, at this runtime API.
fn function_at(runtime_api: &str) -> Settings {
    Settings::mortal()
        .with("AWS_LAMBDA_RUNTIME_API", runtime_api)
        .with(
            "PRESENCE_API_KEYS",
            &format!("back-end:presence.read+presence.write:{KEY}"),
        )
}

/// The settings of a function that requires no credential.
fn open_function_at(runtime_api: &str) -> Settings {
    function_at(runtime_api)
        .without("PRESENCE_API_KEYS")
        .with("PRESENCE_ALLOW_ANONYMOUS", "true")
}

/// Starts a function.
async fn started(settings: &Settings) -> Process {
    let mut process = Process::spawn("presence", &mut settings.command(&[]));
    let greeting = process.line().await.unwrap_or_default();
    assert!(greeting.contains("AWS Lambda"), "{greeting}");
    process
}

async fn get(client: &Client, path: &str) -> Answer {
    send(client.request(Method::GET, path).bearer_auth(KEY)).await
}

async fn post(client: &Client, path: &str, body: &Value) -> Answer {
    let request = client.request(Method::POST, path).bearer_auth(KEY);
    send(request.json(body)).await
}

#[tokio::test]
async fn a_function_answers_as_an_instance_does() {
    let redis = RedisServer::start().await;
    let emulator = Emulator::start().await;
    let settings = function_at(&emulator.runtime_api()).with("REDIS_URL", &redis.url());
    let _function = started(&settings).await;
    let client = emulator.client();

    // Ids keep their percent-encoding.
    for user in ["alice", "a%2Fb", "%C3%BC%20x"] {
        let path = format!("/v1/users/{user}/connect");
        let answer = post(&client, &path, &json!({"connectionId": "tab-1"})).await;
        assert_eq!(answer.ok::<Value>()["becameOnline"], true, "{user}");
    }
    let ids = json!({"userIds": ["nobody", "a/b", "ü x", "alice"]});
    let online: Value = post(&client, "/v1/online", &ids).await.ok();
    assert_eq!(online, json!({"online": ["a/b", "ü x", "alice"]}));
    let page: Value = get(&client, "/v1/online?limit=2").await.ok();
    assert_eq!(page["online"].as_array().map(Vec::len), Some(2));

    let answer = client.get("/v1/online/count").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    assert_eq!(client.get("/metrics").await.status, 401);
    assert_eq!(get(&client, "/metrics").await.status, 200);
    assert_eq!(get(&client, "/v1/none").await.status, 404);
    assert_eq!(get(&client, "/v1/online?limit=0").await.status, 400);
    let long = "x".repeat(70 * 1024);
    let answer = post(&client, "/v1/users/alice/ping", &json!({"x": long})).await;
    assert_eq!(answer.status, 413);
    let answer = get(&client, &format!("/v1/online?cursor={}", &long[..20_000])).await;
    assert_eq!(answer.status, 431);
    assert!(client.get("/readyz").await.status.is_success());

    // A body that is not text: a file compressed with gzip.
    let icon = client.request(Method::GET, "/docs/favicon-32x32.png");
    let icon = icon.send().await.expect("an answer");
    let icon = icon.bytes().await.expect("a body");
    assert!(icon.starts_with(b"\x1f\x8b"), "{:?}", &icon[..8]);

    let answer = get(&client, "/v1/events").await;
    assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE);
    assert!(
        answer.body.contains("streams-unsupported"),
        "{}",
        answer.body
    );
    let earliest = client.request(Method::GET, "/v1/events?lastEventId=earliest&waitMs=500");
    let as_json = earliest
        .bearer_auth(KEY)
        .header("Accept", "application/json");
    let list: Value = send(as_json).await.ok();
    assert_eq!(list["more"], false, "{list}");
    assert!(list["events"].is_array(), "{list}");
}

#[tokio::test]
async fn a_function_streams_if_its_url_streams() {
    let redis = RedisServer::start().await;
    let emulator = Emulator::start().await;
    let settings = function_at(&emulator.runtime_api())
        .with("REDIS_URL", &redis.url())
        .with("PRESENCE_LAMBDA_INVOKE_MODE", "RESPONSE_STREAM")
        .with("AWS_LAMBDA_MAX_CONCURRENCY", "2");
    let _function = started(&settings).await;
    let client = emulator.client();
    let request = Stream::request(&client, "?snapshot=true").bearer_auth(KEY);
    let mut stream = Stream::send(request).await;
    assert!(stream.snapshot().await.is_empty());
    // The second invocation of the same process.
    let answer = post(&client, "/v1/users/alice/connect", &json!({})).await;
    assert_eq!(answer.ok::<Value>()["becameOnline"], true);
    assert_eq!(stream.next().await.brief(), "online alice");
    assert_eq!(client.get("/v1/online/count").await.status, 401);
}

/// No background task sends webhooks on AWS Lambda, where it would be frozen.
#[tokio::test]
async fn webhooks_are_sent_before_the_next_invocation() {
    let receiver = Receiver::start(Conduct::Answer(204)).await;
    let api = RuntimeApi::start().await;
    let settings = receiver.registered_in(open_function_at(&api.address()));
    let _function = started(&settings).await;
    for (call, expected) in [
        ("connect", "user.online alice"),
        ("disconnect", "user.offline alice"),
    ] {
        let path = format!("/v1/users/alice/{call}");
        let invoked = api.invoke(&event("POST", &path), 3_000).await;
        assert!(
            invoked.body.contains("\"statusCode\":200"),
            "{}",
            invoked.body
        );
        api.until_next().await;
        let sent = receiver.received();
        assert_eq!(
            sent.last().map(Received::events),
            Some(vec![expected.to_owned()])
        );
    }
}

/// On AWS Lambda nothing but the sweep makes the attempt.
#[tokio::test]
async fn a_webhook_that_a_sweep_delivers_is_a_span_of_the_trace_of_the_sweep() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let receiver = Receiver::start(Conduct::Answer(500)).await;
    let api = RuntimeApi::start().await;
    let settings = receiver.registered_in(open_function_at(&api.address()));
    let _function = started(&settings).await;
    api.invoke(&event("POST", "/v1/users/alice/connect"), 3_000)
        .await;
    api.until_next().await;
    receiver.now(Conduct::Answer(204));
    // The pause after the first failure is at most 1.2 s.
    sleep(Duration::from_millis(1_300)).await;
    let mut sweep = event("POST", "/v1/sweep");
    sweep["headers"]["traceparent"] = json!(format!("00-{trace}-00f067aa0ba902b7-00"));
    api.invoke(&sweep, 3_000).await;
    api.until_next().await;
    let received = receiver.received();
    let sent = received
        .iter()
        .map(|each| each.headers["traceparent"].as_str());
    let sent: Vec<&str> = sent.collect();
    let digits = received[0].id().trim_start_matches("msg_");
    assert!(sent[0].contains(digits), "{sent:?}");
    let of_sweep = sent[1].strip_prefix(&format!("00-{trace}-"));
    assert!(
        of_sweep.is_some_and(|rest| rest.ends_with("-00")),
        "{sent:?}"
    );
    assert!(!sent[1].contains("00f067aa0ba902b7"), "{sent:?}");
}

#[tokio::test]
async fn a_stream_ends_before_the_function_times_out() {
    let api = RuntimeApi::start().await;
    let settings =
        open_function_at(&api.address()).with("PRESENCE_LAMBDA_INVOKE_MODE", "response_stream");
    let _function = started(&settings).await;
    let invoked = api.invoke(&event("GET", "/v1/events"), 6_000).await;
    assert!(
        invoked.head.contains("/response HTTP/1.1"),
        "{}",
        invoked.head
    );
    for header in [
        "lambda-runtime-function-response-mode: streaming",
        "lambda-runtime-invocation-id: 7",
        "content-type: application/vnd.awslambda.http-integration-response",
        "transfer-encoding: chunked",
    ] {
        assert!(
            invoked.head.to_lowercase().contains(header),
            "{}",
            invoked.head
        );
    }
    let (head, body) = { invoked.body.split_once("\0\0\0\0\0\0\0\0") }.expect("a delimiter");
    let head: Value = serde_json::from_str(head).expect("a head");
    assert_eq!(head["statusCode"], 200);
    assert_eq!(
        head["headers"]["content-type"],
        "text/event-stream; charset=utf-8"
    );
    assert!(
        body.contains("presence.end") && body.contains("max-age"),
        "{body}"
    );
}

#[tokio::test]
async fn an_event_that_is_no_request_fails_and_the_next_one_succeeds() {
    let api = RuntimeApi::start().await;
    let _function = started(&function_at(&api.address())).await;
    let invoked = api.invoke(&json!({"source": "aws.events"}), 3_000).await;
    assert!(invoked.head.contains("/error HTTP/1.1"), "{}", invoked.head);
    assert!(
        invoked.body.contains("payload format 2.0"),
        "{}",
        invoked.body
    );
    let invoked = api.invoke(&event("GET", "/livez"), 3_000).await;
    let answer: Value = serde_json::from_str(&invoked.body).expect("a document");
    assert_eq!(answer["statusCode"], 200);
}

#[tokio::test]
async fn a_function_without_credentials_does_not_start() {
    let settings = function_at("127.0.0.1:1").without("PRESENCE_API_KEYS");
    let ended = Instance::run_to_its_end(&settings, &[]).await;
    assert_eq!(ended.status.code(), Some(2));
    assert!(
        ended.log.contains("PRESENCE_ALLOW_ANONYMOUS"),
        "{}",
        ended.log
    );
}

#[tokio::test]
async fn a_function_without_its_runtime_api_ends() {
    let ended = Instance::run_to_its_end(&function_at("127.0.0.1:1"), &[]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.log.contains("runtime API"), "{}", ended.log);
}
