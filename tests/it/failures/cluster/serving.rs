//! The calls on a cluster that is well.

use harness::client::crowd;
use harness::wait::eventually_true;

use super::scene::Scene;

#[tokio::test]
async fn all_calls_work_across_three_masters() {
    let scene = Scene::with(&[("PRESENCE_TTL", "2s"), ("PRESENCE_PING_INTERVAL", "1s")]).await;
    let (client, names) = (&scene.client, &scene.names);
    let users = crowd("user", 300);
    for alive in client.connect_each(&users).await {
        assert!(alive.became_online);
    }
    assert_eq!(client.count().await, 300);
    assert_eq!(client.online_among(&users).await, users);
    let mut everyone = client.everyone().await;
    everyone.sort();
    let mut sorted = users.clone();
    sorted.sort();
    assert_eq!(everyone, sorted);
    for user in &users {
        assert!(!client.ping(user).await.became_online);
    }
    assert!(client.user(&users[0]).await.online);
    for master in scene.redis.masters().await {
        let partitions = scene.redis.partitions_of(names, master).await;
        assert!((21..=22).contains(&partitions.len()), "{partitions:?}");
    }
    let left = client.disconnect(&users[0]).await;
    assert!(left.became_offline);
    assert_eq!(client.count().await, 299);
    eventually_true("all departures are announced", async || {
        scene.redis.sum(names, "ZCARD", "deadlines", &[]).await == 64
    })
    .await;
    assert_eq!(client.count().await, 0);
    let events = scene.redis.sum(names, "XLEN", "events", &[]).await;
    assert_eq!(events, 600, "each user came and left once");
    assert!(client.user(&users[7]).await.last_seen_at.is_some());
    assert!(client.get("/readyz").await.status.is_success());
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
