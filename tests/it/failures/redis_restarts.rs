//! Redis is killed and restarts, with its data or without.

use harness::redis_server::RedisServer;

use super::scene::Scene;

#[tokio::test]
async fn a_redis_restarted_empty_resets_every_stream_and_pinging_users_return() {
    let mut scene = Scene::open().await;
    scene.redis.kill();
    scene.outlast().await;
    scene.redis.start_again().await;
    scene.recover().await;
    scene.assert_reset(&[]);
}

#[tokio::test]
async fn a_redis_restarted_with_its_data_takes_no_pinging_user_offline() {
    let mut scene = Scene::on(RedisServer::start_durable().await).await;
    scene.redis.kill();
    scene.outlast().await;
    scene.redis.start_again().await;
    scene.recover().await;
    scene.assert_nothing_lost();
}

/// The events after the saved state are lost, so streams that received them are reset.
#[tokio::test]
async fn a_redis_restarted_with_older_data_resets_every_stream() {
    let mut scene = Scene::open().await;
    scene.redis.command::<()>(&["SAVE"]).await;
    scene.clients[0].connect("late").await;
    scene.clients[0].disconnect("late").await;
    scene.redis.kill();
    scene.outlast().await;
    scene.redis.start_again().await;
    scene.recover().await;
    let silent = scene.silent();
    scene.assert_reset(&silent);
}
