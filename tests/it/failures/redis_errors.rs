//! Redis accepts connections and does not serve: it is frozen, busy, full or demoted, or its password has changed.

use std::time::Duration;

use harness::client::crowd;
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::redis_server::RedisServer;
use harness::sse::{Stream, briefs};
use harness::timestamp::Timestamp;
use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::scene::{Scene, all_ready};

#[tokio::test]
async fn a_frozen_redis_takes_no_pinging_user_offline() {
    let mut scene = Scene::open().await;
    scene.redis.freeze();
    scene.outlast().await;
    scene.redis.thaw();
    scene.recover().await;
    scene.assert_nothing_lost();
}

#[tokio::test]
async fn a_redis_busy_with_a_script_takes_no_pinging_user_offline() {
    let mut scene = Scene::open().await;
    let threshold = ["CONFIG", "SET", "busy-reply-threshold", "50"];
    scene.redis.command::<()>(&threshold).await;
    let mut connection = scene.redis.connection().await.expect("Redis is up");
    let endless = tokio::spawn(async move {
        let mut eval = cmd("EVAL");
        eval.arg("while true do end").arg(0);
        let _ = eval.query_async::<()>(&mut connection).await;
    });
    scene.outlast().await;
    scene.redis.command::<()>(&["SCRIPT", "KILL"]).await;
    endless.await.expect("the script was killed");
    scene.recover().await;
    scene.assert_nothing_lost();
}

#[tokio::test]
async fn a_redis_out_of_memory_takes_no_pinging_user_offline() {
    let mut scene = Scene::open().await;
    let maxmemory = |bytes| ["CONFIG", "SET", "maxmemory", bytes];
    scene.redis.command::<()>(&maxmemory("1")).await;
    scene.outlast().await;
    scene.redis.command::<()>(&maxmemory("0")).await;
    scene.recover().await;
    scene.assert_nothing_lost();
}

#[tokio::test]
async fn a_read_only_redis_takes_no_pinging_user_offline() {
    let mut scene = Scene::open().await;
    let replicas = |least| ["CONFIG", "SET", "min-replicas-to-write", least];
    scene.redis.command::<()>(&replicas("1")).await;
    scene.outlast().await;
    scene.redis.command::<()>(&replicas("0")).await;
    scene.recover().await;
    scene.assert_nothing_lost();
}

async fn run(connection: &mut MultiplexedConnection, words: &[&str]) {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    let answer = command.query_async::<redis::Value>(connection).await;
    answer.unwrap_or_else(|error| panic!("{words:?} failed: {error}"));
}

#[tokio::test]
async fn a_changed_redis_password_takes_no_pinging_user_offline() {
    let mut scene = Scene::open().await;
    let mut operator = scene.redis.connection().await.expect("Redis is up");
    run(&mut operator, &["CONFIG", "SET", "requirepass", "new"]).await;
    run(&mut operator, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    run(&mut operator, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    scene.outlast().await;
    run(&mut operator, &["CONFIG", "SET", "requirepass", ""]).await;
    scene.recover().await;
    scene.assert_nothing_lost();
}

/// An operator demotes the primary, and its connections stay open.
#[tokio::test]
async fn a_demoted_primary_takes_no_pinging_user_offline() {
    let mut scene = Scene::open().await;
    let nowhere = harness::redis_server::free_port().to_string();
    let demote = ["REPLICAOF", "127.0.0.1", &nowhere];
    scene.redis.command::<()>(&demote).await;
    scene.outlast().await;
    scene.redis.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    scene.recover().await;
    scene.assert_nothing_lost();
}

/// The address leads to the new primary, and all connections to the old one stay open.
#[tokio::test]
async fn after_a_failover_instances_find_the_new_primary_at_the_same_address() {
    let mut scene = Scene::open().await;
    let replica = RedisServer::start().await;
    let (old, new) = (scene.redis.port(), replica.port());
    let follow = |port: &str| ["REPLICAOF", "127.0.0.1", port].map(str::to_owned);
    let follow_old = follow(&old.to_string());
    let words: Vec<&str> = follow_old.iter().map(String::as_str).collect();
    replica.command::<()>(&words).await;
    replica.has_caught_up().await;
    scene.proxy.lead_to(new);
    replica.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    let follow_new = follow(&new.to_string());
    let words: Vec<&str> = follow_new.iter().map(String::as_str).collect();
    scene.redis.command::<()>(&words).await;
    scene.call_everything().await;
    scene.recover().await;
    scene.assert_nothing_lost();
}

#[tokio::test]
async fn users_without_pings_during_a_frozen_redis_stay_online() {
    let settings = Settings::mortal().with("PRESENCE_PING_INTERVAL", "1s");
    let deployment = Deployment::on_one_server(2, settings).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let users = crowd("user", 20);
    client.connect_each(&users).await;
    stream.changes(users.len()).await;
    deployment.redis().freeze();
    Timestamp::now().plus(Duration::from_secs(4)).pass().await;
    deployment.redis().thaw();
    all_ready(std::slice::from_ref(&client)).await;
    for _ in 0..3 {
        client.connect_each(&users).await;
        Timestamp::now()
            .plus(Duration::from_millis(500))
            .pass()
            .await;
    }
    let events = stream.events_before_now(&client, "marker").await;
    assert!(events.is_empty(), "{:?}", briefs(&events));
}
