//! The context of a trace: from the request into its log lines, and with webhooks.

use harness::client::send;
use harness::instance::{Instance, Settings};
use harness::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::webhooks::receiver::{Conduct, Receiver};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// The log lines of requests to `path`.
fn lines_about(log: &str, path: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let lines = lines.filter(|line: &Value| line["span"]["path"] == path);
    lines.collect()
}

#[tokio::test]
async fn the_log_lines_of_a_request_name_its_trace() {
    let instance = Instance::start(&Settings::new().with("RUST_LOG", "debug")).await;
    let client = instance.client();
    let traced = format!("00-{TRACE}-{SPAN}-01");
    let malformed = format!("00-{TRACE}-{}-01", "0".repeat(16));
    let ping = |user: &str| client.of_user(user, "ping");
    let lookup = client.request(Method::POST, "/v1/online");
    let lookup = lookup.json(&json!({"userIds": ["alice"]}));
    for request in [
        ping("alice").header("traceparent", &traced),
        ping("bob").header("traceparent", &malformed),
        ping("carol"),
        // A handler on another thread.
        lookup.header("traceparent", &traced),
    ] {
        assert_eq!(send(request).await.status, 200);
    }
    for (path, is_traced) in [
        ("/v1/users/alice/ping", true),
        ("/v1/users/bob/ping", false),
        ("/v1/users/carol/ping", false),
        ("/v1/online", true),
    ] {
        let lines = eventually("a line about the request", async || {
            Some(lines_about(&instance.log(), path)).filter(|lines| !lines.is_empty())
        })
        .await;
        for line in lines {
            let span = &line["span"];
            assert_eq!(span["method"], "POST", "{line}");
            let ids = if is_traced {
                (json!(TRACE), json!(SPAN))
            } else {
                (json!(null), json!(null))
            };
            assert_eq!(
                (&span["trace_id"], &span["parent_id"]),
                (&ids.0, &ids.1),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn all_attempts_of_a_webhook_are_spans_of_one_trace() {
    let receiver = Receiver::start(Conduct::Answer(500)).await;
    let settings = receiver.registered_in(Settings::new());
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    eventually("the receiver has a position", async || {
        let metrics = client.get("/metrics").await.body;
        metrics
            .contains("presence_webhook_backlog_seconds{")
            .then_some(())
    })
    .await;
    let traced = format!("00-{TRACE}-{SPAN}-01");
    send(
        client
            .of_user("alice", "connect")
            .header("traceparent", traced),
    )
    .await;
    let attempts = receiver.attempts(2).await;
    let contexts = attempts
        .iter()
        .map(|each| each.headers["traceparent"].as_str());
    let contexts: Vec<Vec<&str>> = contexts.map(|text| text.split('-').collect()).collect();
    let batch = attempts[0].id().trim_start_matches("msg_");
    for context in &contexts {
        assert_eq!((context[0], context[1], context[3]), ("00", batch, "01"));
        assert_eq!((batch.len(), context[2].len()), (32, 16));
    }
    assert_ne!(
        contexts[0][2], contexts[1][2],
        "each attempt is a span of its own"
    );
    let log = instance.log();
    let failure = log
        .lines()
        .find(|line| line.contains("a webhook was not delivered"));
    let failure: Value = serde_json::from_str(failure.expect("a line")).expect("JSON");
    assert_eq!(failure["trace_id"], batch);
}
