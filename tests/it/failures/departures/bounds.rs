//! Bounds of the memory in Redis.

use std::time::Duration;

use harness::client::crowd;
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::names::partitions_of_tests;
use harness::sse::Stream;
use harness::wait::eventually_true;
use tokio::time::sleep;

/// The size of the history of each partition; at least the smallest value that the setting accepts, for all.
const HISTORY_BYTES: u64 = 4 << 10;
const LEAST_BYTES: u64 = 64 << 10;

/// Redis trims the history of a partition in nodes of about 4 KiB, and each sweep checks its size.
const INEXACT: u64 = 16 << 10;

const SEVERAL_SWEEPS: Duration = Duration::from_millis(1_200);

#[tokio::test]
async fn the_history_is_bounded_in_bytes() {
    let bytes = LEAST_BYTES.max(HISTORY_BYTES * partitions_of_tests() as u64);
    let kib = format!("{}kb", bytes >> 10);
    let settings = Settings::new().with("PRESENCE_HISTORY_BYTES", &kib);
    let mut deployment = Deployment::on_one_server(1, settings).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let old = stream.last_id();
    let histories = deployment.names().all("events");
    let count = 600 * histories.len();
    let users = crowd(&"x".repeat(100), count);
    // A history this small holds no more events that a busy instance has not read yet.
    for users in users.chunks(600) {
        client.connect_each(users).await;
        stream.changes(users.len()).await;
    }
    let recent = stream.last_id();
    let most = bytes + INEXACT * histories.len() as u64;
    eventually_true("the history is trimmed", async || {
        deployment.redis().memory_of_all(&histories).await <= most
    })
    .await;
    let kept = deployment.redis().sum("XLEN", &histories, &[]).await;
    assert!(kept > 200, "{kept} events in {kib}");
    client.connect("bob").await;
    // The new instance has not received these events itself.
    deployment.add_instance().await;
    let fresh = deployment.instances[1].client();
    let mut resumed = Stream::resume(&fresh, "", &old).await;
    let reset = resumed.next().await;
    assert_eq!(reset.name, "presence.reset");
    assert_eq!(reset.json()["reason"], "history-gone");
    let mut resumed = Stream::resume(&fresh, "", &recent).await;
    assert_eq!(resumed.next().await.brief(), "online bob");
}

/// A list of one event takes more memory than a small share of the history. A history without its newest event would be
/// a lost one.
#[tokio::test]
async fn the_newest_event_of_a_small_history_stays() {
    let settings = Settings::new()
        .with("PRESENCE_PARTITIONS", "16")
        .with("PRESENCE_HISTORY_BYTES", "64kb");
    let deployment = Deployment::on_one_server(1, settings).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    assert_eq!(stream.next().await.brief(), "online alice");
    sleep(SEVERAL_SWEEPS).await;
    client.disconnect("alice").await;
    assert_eq!(stream.next().await.brief(), "offline alice");
}
