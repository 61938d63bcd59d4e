//! A master that died, returned as a replica, and is the master again.

use std::time::Duration;

use harness::wait::eventually_true;
use tokio::time::sleep;

use super::scene::{Scene, try_ping};

#[tokio::test]
async fn a_planned_failover_to_a_node_that_returned_refuses_nobody() {
    let mut scene = Scene::with(&[]).await;
    let users = scene.users_of_masters(60).await.remove(&1);
    let users = users.expect("users of the master");
    scene.client.connect_each(&users).await;
    scene.redis.kill(1);
    let replica = scene.redis.failed_over(1).await;
    scene.redis.start_again(1).await;
    eventually_true("the instance has met the node as a replica", async || {
        scene.instance.log().contains("it is a replica")
    })
    .await;
    eventually_true("the users are served", async || {
        try_ping(&scene.client, &users[0]).await.status == 200
    })
    .await;
    // Longer than the pause between two attempts to connect.
    sleep(Duration::from_secs(2)).await;
    let failing_over = scene.redis.fail_over(replica);
    tokio::pin!(failing_over);
    for user in users.iter().cycle() {
        let answer = try_ping(&scene.client, user).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        tokio::select! {
            biased;
            master = &mut failing_over => {
                assert_eq!(master, 1);
                break;
            }
            () = sleep(Duration::from_millis(10)) => {}
        }
    }
}
