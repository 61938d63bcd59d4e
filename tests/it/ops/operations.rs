//! Health, readiness, metrics and documents.

use std::time::Duration;

use harness::client::{media_type, send};
use harness::cluster::{Cluster, Store, on_both_stores};
use harness::instance::{Instance, Settings};
use harness::redis_server::{RedisServer, free_port};
use harness::sse::Stream;

async fn an_instance_is_live_and_ready(store: Store) {
    let cluster = Cluster::start(store).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(cluster.client().get(path).await.status, 200, "{path}");
    }
}

async fn the_metrics_count_what_happens(store: Store) {
    let cluster = Cluster::with(store, Settings::mortal()).await;
    let client = cluster.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    client.ping("alice").await;
    client.connect("bob").await;
    client.disconnect("bob").await;
    stream.changes(4).await;
    let answer = client.get("/metrics").await;
    assert_eq!(media_type(&answer.headers), "application/openmetrics-text");
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

/// A sweep finds the user expired before the deadline in the index.
#[tokio::test]
async fn a_departure_before_its_deadline_counts_as_in_time() {
    let cluster = Cluster::on_one_server(1, Settings::mortal()).await;
    let client = cluster.client();
    let mut stream = Stream::open(&client, "").await;
    let alice = client.connect("alice").await;
    alice
        .expires_at
        .less(Duration::from_millis(300))
        .pass()
        .await;
    let key = cluster.names().of_user("user", "alice");
    cluster.redis().command::<()>(&["DEL", &key]).await;
    let gone = stream.changes(2).await.pop().expect("two changes");
    assert!(gone.timestamp() < alice.expires_at, "{gone:?}");
    let metrics = client.get("/metrics").await.body;
    let mut lateness = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("presence_sweep_lateness_seconds_sum "));
    let lateness: f64 = lateness.next().expect("a sum").parse().expect("a number");
    assert!(lateness < 60.0, "{lateness} s");
}

async fn the_documents_are_served_from_the_binary(store: Store) {
    let cluster = Cluster::start(store).await;
    let client = cluster.client();
    let document = client.get("/openapi.json").await;
    assert_eq!(media_type(&document.headers), "application/json");
    let document: serde_json::Value = document.ok();
    assert!(document["paths"]["/v1/events"]["get"].is_object());
    let page = client.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("swagger-ui"), "{}", page.body);
    for asset in ["swagger-ui-bundle.js", "swagger-ui.css"] {
        let asset = client.get(&format!("/docs/{asset}")).await;
        assert_eq!(asset.status, 200);
    }
}

#[tokio::test]
async fn without_redis_an_instance_is_live_and_not_ready() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let settings = Settings::new().with("REDIS_URL", &url);
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    assert_eq!(client.get("/livez").await.status, 200);
    let ready = client.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(!ready.header("retry-after").is_empty());
    let help = Instance::run_to_its_end(&settings, &["--healthcheck"]).await;
    assert_eq!(help.status.code(), Some(1), "nothing listens at port 0");
    let listen = instance.address().to_string();
    let settings = settings.with("PRESENCE_LISTEN", &listen);
    let health = Instance::run_to_its_end(&settings, &["--healthcheck"]).await;
    assert_eq!(health.status.code(), Some(0));
}

/// A right and a wrong password appear neither in answers nor in the log.
#[tokio::test]
async fn the_password_of_redis_is_not_shown() {
    let redis = RedisServer::start().await;
    let settings = ["CONFIG", "SET", "requirepass", "open-sesame"];
    redis.command::<()>(&settings).await;
    let url = |password| redis.url().replace("//", &format!("//:{password}@"));
    let with = |password| Settings::new().with("REDIS_URL", &url(password));
    let welcome = Instance::start(&with("open-sesame")).await;
    welcome.client().connect("alice").await;
    let refused = Instance::start(&with("open-barley")).await;
    let ready = refused.client().get("/readyz").await;
    assert_eq!(ready.status, 503);
    let ping = send(refused.client().of_user("alice", "ping")).await;
    assert_eq!(ping.status, 503);
    for text in [&welcome.log(), &refused.log(), &ready.body, &ping.body] {
        assert!(!text.contains("open-"), "{text}");
    }
}

on_both_stores!(
    an_instance_is_live_and_ready,
    the_metrics_count_what_happens,
    the_documents_are_served_from_the_binary,
);
