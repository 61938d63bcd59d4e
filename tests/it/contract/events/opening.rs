//! The first bytes of a stream, and its keep-alive.

use std::time::Duration;

use harness::client::media_type;
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::sse::Stream;
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, timeout};

/// Less than the 15 s after which a keep-alive is sent.
const BEFORE_A_KEEP_ALIVE: Duration = Duration::from_secs(12);

async fn a_stream_has_the_headers_proxies_need(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let by_post = client
        .request(Method::POST, "/v1/events")
        .json(&json!({"userIds": ["alice"]}));
    for request in [Stream::request(&client, ""), by_post] {
        let stream = Stream::send(request).await;
        assert_eq!(media_type(&stream.headers), "text/event-stream");
        assert_eq!(stream.headers["cache-control"], "no-store, no-transform");
        assert_eq!(stream.headers["x-accel-buffering"], "no");
        assert!(!stream.headers.contains_key("content-length"));
    }
}

async fn the_first_bytes_do_not_wait_for_an_event(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for query in ["", "?userIds=alice", "?snapshot=true"] {
        let opened = timeout(BEFORE_A_KEEP_ALIVE, Stream::open(&client, query)).await;
        let stream = opened.unwrap_or_else(|_| panic!("nothing comes by itself for {query}"));
        let raw = stream.raw();
        assert!(raw.contains("\nid: "), "{raw}");
        assert!(stream.retry_ms().is_some(), "{raw}");
    }
}

/// No event after the first bytes is missed.
async fn the_first_bytes_mean_that_the_stream_is_live(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for round in 0..50 {
        let mut stream = Stream::open(&client, "").await;
        let user = format!("user-{round}");
        client.connect(&user).await;
        assert_eq!(stream.next().await.user(), user);
    }
}

async fn a_comment_is_sent_at_least_every_fifteen_seconds(store: Store) {
    let deployment = Deployment::start(store).await;
    let stream = Stream::open(&deployment.client(), "?userIds=nobody").await;
    let opened = Instant::now();
    eventually_true("a comment comes", async || !stream.comments().is_empty()).await;
    let after = opened.elapsed();
    assert!(after < Duration::from_secs(16), "{after:?}");
}

over_each_protocol!(
    a_stream_has_the_headers_proxies_need,
    the_first_bytes_do_not_wait_for_an_event,
    the_first_bytes_mean_that_the_stream_is_live,
    a_comment_is_sent_at_least_every_fifteen_seconds,
);
