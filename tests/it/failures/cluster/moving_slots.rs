//! Slots that move to another node, whole and key by key.

use harness::client::send;
use harness::wait::eventually_true;

use super::scene::{Scene, try_ping};

/// A partition of the first master, and users in it.
fn crowd_of(scene: &Scene, partition: usize, count: usize) -> Vec<String> {
    let users = (0..).map(|number| format!("user-{number}"));
    let users = users.filter(|user| scene.names.partition_of(user) == partition);
    users.take(count).collect()
}

#[tokio::test]
async fn a_slot_moves_there_and_back_and_nobody_notices() {
    let scene = Scene::with(&[]).await;
    let users = crowd_of(&scene, 3, 20);
    scene.client.connect_each(&users).await;
    let slot = scene.names.slot(3);
    for to in [2, 0] {
        scene.redis.move_slot(slot, to).await;
        for user in &users {
            let answer = try_ping(&scene.client, user).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(
                answer.body.contains("\"becameOnline\":false"),
                "{}",
                answer.body
            );
        }
        assert_eq!(scene.client.online_among(&users).await, users);
    }
    if scene.redis.moves_slots_atomically().await {
        let moving = scene.redis.move_slot_atomically(slot, 1);
        tokio::pin!(moving);
        for user in users.iter().cycle() {
            let answer = try_ping(&scene.client, user).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            if futures_util::poll!(&mut moving).is_ready() {
                break;
            }
        }
    }
    assert_eq!(scene.client.count().await, 20);
    let left = scene.client.disconnect(&users[0]).await;
    assert!(left.became_offline);
}

#[tokio::test]
async fn a_node_that_joins_serves_the_slots_that_it_gets() {
    let mut scene = Scene::with(&[("PRESENCE_TTL", "3s"), ("PRESENCE_PING_INTERVAL", "1s")]).await;
    let users = crowd_of(&scene, 3, 20);
    scene.client.connect_each(&users).await;
    let added = scene.redis.add_node().await;
    let slot = scene.names.slot(3);
    scene.redis.move_slot(slot, added).await;
    for user in &users {
        assert_eq!(try_ping(&scene.client, user).await.status, 200);
    }
    assert_eq!(scene.client.count().await, 20);
    // The new node is swept too.
    let (names, redis) = (&scene.names, &scene.redis);
    eventually_true("the departures are announced", async || {
        redis.sum(names, "ZCARD", "deadlines", &[]).await == 64
    })
    .await;
    scene.redis.move_slot(slot, 1).await;
    scene.redis.remove_last_node().await;
    for user in &users {
        assert_eq!(try_ping(&scene.client, user).await.status, 200);
    }
}

/// The living stay alive, and everything else is refused until the slot has moved.
#[tokio::test]
async fn while_a_slot_moves_key_by_key_users_that_ping_stay_online() {
    let scene = Scene::with(&[]).await;
    let users = crowd_of(&scene, 3, 20);
    scene.client.connect_each(&users).await;
    scene.pings_only_extend(&scene.client, &users[0]).await;
    let open = scene.redis.open_slot(scene.names.slot(3), 2).await;
    let keys: Vec<String> = users[..10]
        .iter()
        .map(|user| scene.names.of_user("user", user))
        .collect();
    open.move_keys(&keys).await;
    let pings = users.iter().map(|user| try_ping(&scene.client, user));
    for answer in futures_util::future::join_all(pings).await {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(
            answer.body.contains("\"becameOnline\":false"),
            "{}",
            answer.body
        );
    }
    assert_eq!(scene.client.online_among(&users).await, users);
    let stranger = crowd_of(&scene, 3, 21).pop().expect("a user");
    let refused = send(scene.client.of_user(&stranger, "connect")).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(refused.header("retry-after"), "1");
    open.finish().await;
    assert!(scene.client.connect(&stranger).await.became_online);
    for user in &users {
        assert!(!scene.client.ping(user).await.became_online);
    }
    assert_eq!(scene.client.count().await, 21);
}
