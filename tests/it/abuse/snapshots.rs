//! Many concurrent snapshots, and snapshots that are not read.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use harness::client::{crowd, send};
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::names::partitions_of_tests;
use harness::sse::Stream;
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::json;

use super::slow_reader::mute_reader;

/// More users than one step of a snapshot reads.
const USERS: usize = 3_000;

async fn deployment_with_users() -> Deployment {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    deployment
        .client()
        .connect_each(&crowd("user", USERS))
        .await;
    deployment
}

#[tokio::test]
async fn streams_that_open_together_share_a_snapshot() {
    let deployment = deployment_with_users().await;
    let client = deployment.client();
    let scans = async || deployment.redis().calls_of("zscan").await;
    let before = scans().await;
    let mut first = Stream::open(&client, "?snapshot=true").await;
    assert_eq!(first.snapshot().await.len(), USERS);
    let one = scans().await - before;
    let before = scans().await;
    let readers = (0..20).map(async |_| {
        let mut stream = Stream::open(&client, "?snapshot=true").await;
        stream.snapshot().await.len()
    });
    assert_eq!(join_all(readers).await, [USERS; 20]);
    let twenty = scans().await - before;
    // The streams do not open at the very same moment.
    assert!(twenty <= 5 * one, "{twenty} steps for all, {one} for one");
}

#[tokio::test]
async fn no_snapshot_is_made_for_closed_streams() {
    let deployment = deployment_with_users().await;
    let client = deployment.client();
    let before = deployment.redis().calls_of("zscan").await;
    for _ in 0..100 {
        let head = client.request(Method::HEAD, "/v1/events?snapshot=true");
        assert_eq!(send(head).await.status, 200);
    }
    let mut stream = Stream::open(&client, "?snapshot=true").await;
    assert_eq!(stream.snapshot().await.len(), USERS);
    let steps = deployment.redis().calls_of("zscan").await - before;
    assert!(steps < 100, "{steps} steps for one reader");
}

#[tokio::test]
async fn streams_with_a_filter_are_reset_together() {
    const STREAMS: usize = 300;
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let client = deployment.client();
    client.connect("user-0-1").await;
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        let users: Vec<_> = (0..20)
            .map(|user| format!("user-{number}-{user}"))
            .collect();
        let query = format!("?snapshot=true&userIds={}", users.join(","));
        streams.push(Stream::open(&client, &query).await);
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.snapshot().await.len(), usize::from(number == 0));
    }
    let before = deployment.redis().calls_of("zmscore").await;
    deployment.redis().flush_all().await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.name, "presence.reset");
        assert!(stream.snapshot().await.is_empty());
    }
    // Nothing else uses `ZMSCORE`, and `FLUSHALL` does not reset the counters. The resets are spread over some time, in
    // which several calls are made.
    let calls = deployment.redis().calls_of("zmscore").await - before;
    let most = (STREAMS / 3 * partitions_of_tests()) as u64;
    assert!(calls < most, "{calls} calls for {STREAMS} streams");
}

#[tokio::test]
async fn a_stream_with_an_unread_snapshot_ends_at_its_maximum_age() {
    let settings = Settings::new().with("PRESENCE_STREAM_MAX_AGE", "2s");
    let deployment = Deployment::of(1, settings).await;
    let client = deployment.client();
    client.connect_each(&crowd(&"x".repeat(120), 5_000)).await;
    let mute = mute_reader(deployment.instances[0].address(), "?snapshot=true");
    let streams = async || client.metric("presence_streams").await;
    eventually_true("the stream is open", async || streams().await == Some(1)).await;
    eventually_true("the stream is over", async || streams().await == Some(0)).await;
    drop(mute);
}

/// Streams with the same list share the list and its entry in the index.
#[tokio::test]
async fn streams_about_the_same_users_share_one_list() {
    const STREAMS: usize = 100;
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    let users: Vec<_> = (0..10_000).map(|user| format!("{user:0>64}")).collect();
    let mut streams = Vec::new();
    let mut first_kib = 0;
    for number in 0..STREAMS {
        let body = json!({"userIds": users});
        let request = client.request(Method::POST, "/v1/events").json(&body);
        streams.push(Stream::send(request).await);
        if number == 5 {
            first_kib = deployment.instances[0].resident_kib();
        }
    }
    let grown_kib = deployment.instances[0]
        .resident_kib()
        .saturating_sub(first_kib);
    // Separate lists would take more than a MiB each.
    assert!(grown_kib < 40 * 1_024, "{grown_kib} KiB");
    client.connect(&users[5_000]).await;
    let mut told = BTreeSet::new();
    for stream in &mut streams {
        told.insert(stream.changes(1).await.remove(0).id);
    }
    assert_eq!(told.len(), 1);
    drop(streams);
    eventually_true("all are closed", async || {
        client.metric("presence_streams").await == Some(0)
    })
    .await;
}
