//! The metrics, and the two text formats in which they are served.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::client::{Answer, Client, media_type, send};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::{Instance, Settings};
use harness::sse::Stream;
use reqwest::Method;

async fn the_metrics_count_what_happens(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    client.ping("alice").await;
    client.connect("bob").await;
    client.disconnect("bob").await;
    stream.changes(4).await;
    let answer = client.get("/metrics").await;
    assert_eq!(media_type(&answer.headers), "text/plain");
    for line in [
        "presence_pings_total 1",
        "presence_transitions_total{kind=\"online\"} 2",
        "presence_transitions_total{kind=\"disconnected\"} 1",
        "presence_transitions_total{kind=\"expired\"} 1",
        "presence_streams 1",
        "presence_sweep_lateness_seconds_count 1",
        "presence_store_seconds_count{operation=\"ping\"} 1",
    ] {
        let found = answer.body.lines().any(|found| found == line);
        assert!(found, "{line} is not in\n{}", answer.body);
    }
    for metric in ["presence_users_online", "presence_bus_lag_seconds"] {
        assert!(answer.body.contains(metric), "{metric}");
    }
}

/// A sweep finds the user expired before the deadline in the index, where another program deleted its key.
#[tokio::test]
async fn a_departure_before_its_deadline_counts_as_in_time() {
    let deployment = Deployment::on_one_server(1, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let alice = client.connect("alice").await;
    alice
        .expires_at
        .less(Duration::from_millis(300))
        .pass()
        .await;
    let key = deployment.names().of_user("user", "alice");
    deployment.redis().command::<()>(&["DEL", &key]).await;
    // A call about another user causes the sweep; nothing told the instance of the key.
    client.connect("bob").await;
    let gone = stream.changes(3).await;
    let gone = { gone.iter() }.find(|change| change.brief() == "offline alice");
    let gone = gone.expect("the departure");
    assert!(gone.timestamp() < alice.expires_at, "{gone:?}");
    let metrics = client.get("/metrics").await.body;
    let mut lateness = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("presence_sweep_lateness_seconds_sum "));
    let lateness: f64 = lateness.next().expect("a sum").parse().expect("a number");
    assert!(lateness < 60.0, "{lateness} s");
}

/// The metrics in the form that `accept` asks for.
pub(crate) async fn metrics(client: &Client, accept: &str) -> Answer {
    let request = client.request(Method::GET, "/metrics");
    send(request.header("accept", accept)).await
}

#[tokio::test]
async fn requests_count_by_route_method_and_status() {
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    for user in ["alice", "bob"] {
        client.ping(user).await;
    }
    client.get("/v1/users/alice").await;
    client.get("/v1/users/alice/no-such-call").await;
    client.get("/v1/online?limit=no-number").await;
    let refused = client.request(Method::GET, "/v1/online/count");
    send(refused.header("host", "example.com")).await;
    let metrics = client.get("/metrics").await.body;
    for (route, method, status, count) in [
        ("/v1/users/{userId}/ping", "POST", 200, 2),
        ("/v1/users/{userId}", "GET", 200, 1),
        ("none", "GET", 404, 1),
        ("/v1/online", "GET", 400, 1),
        ("/v1/online/count", "GET", 403, 1),
    ] {
        let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
        let counts = format!("presence_request_duration_seconds_count{{{labels}}} {count}\n");
        assert!(metrics.contains(&counts), "{counts} is not in\n{metrics}");
    }
}

async fn a_user_that_returns_soon_counts_as_a_flap_by_the_reason_of_its_departure(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    client.disconnect("alice").await;
    client.connect("alice").await;
    client.connect("bob").await;
    // Alice and Bob expire.
    stream.changes(6).await;
    client.connect("bob").await;
    stream.changes(1).await;
    let metrics = client.get("/metrics").await.body;
    for line in [
        "presence_flaps_total{reason=\"disconnected\"} 1\n",
        "presence_flaps_total{reason=\"expired\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

async fn resets_count_by_reason_and_the_history_has_an_age(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    for _ in 0..2 {
        let mut stream = Stream::open(&client, "?lastEventId=no-cursor").await;
        let reset = stream.next().await;
        assert_eq!(reset.name, "presence.reset");
    }
    let reset = "presence_resets_total{reason=\"unknown-cursor\"}";
    assert_eq!(client.metric(reset).await, Some(2));
    let metrics = client.get("/metrics").await.body;
    let mut ages = metrics.lines();
    let age = ages.find_map(|line| line.strip_prefix("presence_history_age_seconds "));
    let age: f64 = age.expect("an age").parse().expect("a number");
    assert!((0.0..60.0).contains(&age), "{age} s");
}

#[tokio::test]
async fn the_process_and_its_limits_are_metrics() {
    let settings = Settings::new()
        .with("PRESENCE_CONNECTIONS", "100")
        .with("PRESENCE_STREAMS", "10");
    let instance = Instance::start(&settings).await;
    let metrics = instance.client().get("/metrics").await.body;
    let value = |name: &str| {
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
        value.parse::<f64>().expect("a number")
    };
    let version = concat!(
        "presence_build_info{version=\"",
        env!("CARGO_PKG_VERSION"),
        "\"}"
    );
    for (name, least, most) in [
        (version, 1.0, 1.0),
        ("presence_connections_limit", 100.0, 100.0),
        ("presence_streams_limit", 10.0, 10.0),
        ("presence_partitions", 1.0, 1.0),
        ("presence_memory_limit_bytes", 64e6, 1e15),
        ("process_cpu_seconds_total", 0.0, 60.0),
        ("process_resident_memory_bytes", 1e6, 1e9),
        ("process_virtual_memory_bytes", 1e6, 1e15),
        ("process_open_fds", 5.0, 1e4),
        ("process_max_fds", 100.0, 1e10),
        ("process_start_time_seconds", 1.7e9, 1e10),
    ] {
        let value = value(name);
        assert!((least..=most).contains(&value), "{name} {value}");
    }
}

/// Prometheus itself reads the other format in `ops::monitoring`.
#[tokio::test]
async fn promtool_accepts_the_classic_format() {
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    client.ping("alice").await;
    let other = metrics(&client, "application/openmetrics-text; version=1.0.0").await;
    assert_eq!(
        other.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(other.body.ends_with("# EOF\n"), "{}", other.body);
    let answer = metrics(&client, "text/plain").await;
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let mut promtool = Command::new("promtool");
    let promtool = promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let promtool = promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool of tests/install");
    let mut input = promtool.stdin.take().expect("a pipe");
    input.write_all(answer.body.as_bytes()).expect("a write");
    drop(input);
    let checked = promtool.wait_with_output().expect("an end");
    let complaints = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{complaints}");
    assert_eq!(complaints, "");
}

on_both_stores!(
    the_metrics_count_what_happens,
    a_user_that_returns_soon_counts_as_a_flap_by_the_reason_of_its_departure,
    resets_count_by_reason_and_the_history_has_an_age,
);
