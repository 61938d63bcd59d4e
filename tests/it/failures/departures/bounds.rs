//! Bounds of the memory in Redis.

use harness::client::crowd;
use harness::cluster::Cluster;
use harness::instance::Settings;
use harness::sse::Stream;
use harness::wait::eventually_true;

/// The smallest value that the setting accepts.
const HISTORY_BYTES: u64 = 64 << 10;

/// Redis trims the history of a partition in nodes of about 4 KiB, and each sweep checks its size.
const INEXACT: u64 = 16 << 10;

#[tokio::test]
async fn the_history_is_bounded_in_bytes() {
    let settings = Settings::new().with("PRESENCE_HISTORY_BYTES", "64kb");
    let mut cluster = Cluster::on_one_server(1, settings).await;
    let client = cluster.client();
    let mut stream = Stream::open(&client, "").await;
    let old = stream.last_id();
    let histories = cluster.names().all("events");
    let count = 600 * histories.len();
    let users = crowd(&"x".repeat(100), count);
    client.connect_each(&users).await;
    stream.changes(count).await;
    let recent = stream.last_id();
    let most = HISTORY_BYTES + INEXACT * histories.len() as u64;
    eventually_true("the history is trimmed", async || {
        cluster.redis().memory_of_all(&histories).await <= most
    })
    .await;
    let kept = cluster.redis().sum("XLEN", &histories, &[]).await;
    assert!(kept > 200, "{kept} events in 64 KiB");
    client.connect("bob").await;
    // The new instance has not received these events itself.
    cluster.add_instance().await;
    let fresh = cluster.instances[1].client();
    let mut resumed = Stream::resume(&fresh, "", &old).await;
    let reset = resumed.next().await;
    assert_eq!(reset.name, "presence.reset");
    assert_eq!(reset.json()["reason"], "history-gone");
    let mut resumed = Stream::resume(&fresh, "", &recent).await;
    assert_eq!(resumed.next().await.brief(), "online bob");
}
