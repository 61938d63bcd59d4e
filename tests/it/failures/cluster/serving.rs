//! The calls on a cluster that is well.

use harness::client::crowd;
use harness::instance::Instance;
use harness::wait::eventually_true;
use serde_json::Value;

use super::scene::{Scene, settings};
use crate::ops::redis_acl::RIGHTS;

#[tokio::test]
async fn all_calls_work_across_three_masters() {
    let scene = Scene::with(&[]).await;
    let (client, names) = (&scene.client, &scene.names);
    let users = crowd("user", 150);
    for alive in client.connect_each(&users).await {
        assert!(alive.became_online);
    }
    assert_eq!(client.count().await, 150);
    assert_eq!(client.online_among(&users).await, users);
    let mut sorted = users.clone();
    sorted.sort();
    assert_eq!(client.everyone().await, sorted);
    for user in &users {
        assert!(!client.ping(user).await.became_online);
    }
    assert!(client.user(&users[0]).await.online);
    for master in scene.redis.masters().await {
        let partitions = scene.redis.partitions_of(names, master).await;
        assert!((21..=22).contains(&partitions.len()), "{partitions:?}");
    }
    assert!(client.disconnect(&users[0]).await.became_offline);
    assert_eq!(client.count().await, 149);
    assert!(client.get("/readyz").await.status.is_success());
    let status: Value = client.get("/v1/status").await.ok();
    assert_eq!(
        (&status["online"], &status["partitions"]),
        (&149.into(), &64.into())
    );
    assert_eq!(
        status["instances"].as_array().map(Vec::len),
        Some(1),
        "{status}"
    );
    assert!(status["history"]["oldest"].is_string(), "{status}");
}

#[tokio::test]
async fn departures_are_announced_on_all_masters() {
    let short = [("PRESENCE_TTL", "2s"), ("PRESENCE_PING_INTERVAL", "1s")];
    let scene = Scene::with(&short).await;
    let users = crowd("user", 90);
    scene.client.connect_each(&users).await;
    let (redis, names) = (&scene.redis, &scene.names);
    // Each index also has a member that is no user.
    eventually_true("all departures are announced", async || {
        redis.sum(names, "ZCARD", "deadlines", &[]).await == 64
    })
    .await;
    assert_eq!(scene.client.count().await, 0);
    let events = redis.sum(names, "XLEN", "events", &[]).await;
    assert_eq!(events, 180, "each user came and left once");
    assert!(scene.client.user(&users[7]).await.last_seen_at.is_some());
}

#[tokio::test]
async fn a_large_list_is_paged_partition_by_partition() {
    let scene = Scene::with(&[]).await;
    let users = crowd("user", 1_500);
    scene.client.connect_each(&users).await;
    let mut everyone = scene.client.everyone().await;
    everyone.sort();
    everyone.dedup();
    assert_eq!(everyone.len(), users.len());
}

#[tokio::test]
async fn nodes_that_announce_host_names_are_reached_by_them() {
    let scene = Scene::with(&[]).await;
    scene.redis.announce("localhost").await;
    let instance = Instance::start(&settings(&scene.redis, &[])).await;
    let client = instance.client();
    // The nodes learn the host names of the others with their next messages.
    eventually_true("all partitions are reached", async || {
        client.metric("presence_partitions_reachable").await == Some(64)
    })
    .await;
    let users = crowd("user", 60);
    client.connect_each(&users).await;
    assert_eq!(scene.client.online_among(&users).await, users);
    assert_eq!(client.count().await, 60);
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let scene = Scene::with(&[]).await;
    let user = ["ACL", "SETUSER", "service", "on", ">secret"];
    let setuser = [&user[..], &RIGHTS, &["+cluster|slots"]].concat();
    for node in 0..6 {
        scene.redis.node(node).command::<()>(&setuser).await;
    }
    let url = scene.redis.url().replace("://", "://service:secret@");
    let settings = settings(&scene.redis, &[("REDIS_URL", &url)]);
    let instance = Instance::start(&settings.with("PRESENCE_KEYSPACE_EVENTS", "off")).await;
    let client = instance.client();
    let users = crowd("user", 60);
    client.connect_each(&users).await;
    assert_eq!(client.online_among(&users).await, users);
    assert_eq!(client.count().await, 60);
    let slot = scene.names.slot(scene.names.partition_of(&users[0]));
    let from = scene.redis.master_of_slot(slot).await;
    scene.pings_only_extend(&client, &users[0]).await;
    let open = scene.redis.open_slot(slot, (from + 1) % 3).await;
    let key = scene.names.of_user("user", &users[0]);
    open.move_keys(&[key]).await;
    assert!(!client.ping(&users[0]).await.became_online, "over ASKING");
    open.finish().await;
    assert!(client.disconnect(&users[0]).await.became_offline);
}
