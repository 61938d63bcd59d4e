//! A master that was frozen and replaced. Calls wait in its sockets. When it continues, it runs them before it learns
//! that it was replaced, and publishes their events. The new master passes these messages on.

use std::time::Duration;

use futures_util::future::join_all;
use harness::client::send;
use harness::sse::{Stream, alternating};
use harness::wait::eventually_true;
use tokio::time::sleep;

use super::scene::Scene;

/// By then a message of the former master would have arrived.
const HEARD: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn what_a_replaced_master_publishes_is_not_heard() {
    let scene = Scene::with(&[]).await;
    let mut users = scene.users_of_masters(90).await.remove(&1);
    let users = users.as_mut().expect("users of the master");
    let mut stream = Stream::open(&scene.client, "").await;
    let mut frozen = 1;
    for knows_the_new_master in [true, false] {
        let users = users.split_off(users.len() / 2);
        scene.redis.freeze(frozen);
        let calls = users
            .iter()
            .map(|user| send(scene.client.of_user(user, "connect")));
        for answer in join_all(calls).await {
            assert_eq!(answer.status, 503, "{}", answer.body);
        }
        let replica = scene.redis.failed_over(frozen).await;
        if knows_the_new_master {
            eventually_true("all partitions are swept", async || {
                scene.client.metric("presence_partitions_reachable").await == Some(64)
            })
            .await;
        }
        scene.redis.thaw(frozen);
        scene.redis.agreed().await;
        scene.redis.node(frozen).has_caught_up().await;
        sleep(HEARD).await;
        let heard = stream.unread();
        assert!(heard.iter().all(|event| event.is_routine()), "{heard:?}");
        for alive in scene.client.connect_each(&users).await {
            assert!(alive.became_online, "no call of the former master counts");
        }
        let events = stream.changes(users.len()).await;
        assert_eq!(alternating(&events).len(), users.len());
        frozen = replica;
    }
    assert!(!stream.raw().contains("presence.reset"));
}
