//! The network between the service and Redis fails.

use std::time::Duration;

use harness::wait::eventually_true;

use super::scene::Scene;

#[tokio::test]
async fn a_redis_that_cannot_be_reached_costs_nobody_their_presence() {
    let mut scene = Scene::open().await;
    scene.proxy.refuse();
    scene.outlast().await;
    scene.proxy.pass();
    scene.recover().await;
    scene.assert_nothing_lost();
}

#[tokio::test]
async fn a_network_that_swallows_everything_costs_nobody_their_presence() {
    let mut scene = Scene::open().await;
    scene.proxy.freeze();
    scene.outlast().await;
    scene.proxy.pass();
    scene.recover().await;
    scene.assert_nothing_lost();
}

/// What was sent into the silence is carried out when it ends, unless the connections are gone.
#[tokio::test]
async fn a_network_that_swallows_everything_and_then_breaks_costs_nobody_their_presence() {
    let mut scene = Scene::open().await;
    scene.proxy.freeze();
    scene.outlast().await;
    scene.proxy.cut_all();
    scene.proxy.pass();
    scene.recover().await;
    scene.assert_nothing_lost();
}

#[tokio::test]
async fn a_redis_that_is_too_slow_costs_nobody_their_presence() {
    let mut scene = Scene::open().await;
    scene.proxy.slow(Duration::from_millis(1_000));
    scene.outlast().await;
    scene.proxy.pass();
    scene.recover().await;
    scene.assert_nothing_lost();
}

/// Half a second each way is more than one command may take, and two would be more than a call may.
#[tokio::test]
async fn a_slow_redis_is_waited_for_and_never_for_too_long() {
    for delay_ms in [50, 200, 500] {
        let mut scene = Scene::open().await;
        scene.proxy.slow(Duration::from_millis(delay_ms));
        for _ in 0..3 {
            scene.call_everything().await;
        }
        scene.proxy.pass();
        scene.recover().await;
        scene.assert_nothing_lost();
    }
}

#[tokio::test]
async fn connections_cut_again_and_again_lose_and_repeat_nothing() {
    let mut scene = Scene::open().await;
    for _ in 0..5 {
        scene.proxy.cut_all();
        scene.call_everything().await;
    }
    scene.recover().await;
    scene.assert_nothing_lost();
}

#[tokio::test]
async fn replies_cut_in_their_middle_lose_and_repeat_nothing() {
    let mut scene = Scene::open().await;
    for bytes in [0, 1, 2, 5, 13, 40, 100] {
        scene.proxy.cut_reply_after(bytes);
        scene.call_everything().await;
        eventually_true("a reply is cut", async || scene.proxy.has_cut()).await;
    }
    scene.recover().await;
    scene.assert_nothing_lost();
}
