//! Settings that do not fit the servers.

use harness::client::Client;
use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;
use harness::wait::eventually_true;

use super::scene::Scene;

/// Asserts that the instance is not ready and says why, in its log and to `/readyz`.
async fn refuses(instance: &Instance, why: &str) {
    let client: Client = instance.client();
    eventually_true("the cause is known", async || {
        let answer = client.get("/readyz").await;
        answer.status == 503 && answer.body.contains(why)
    })
    .await;
    eventually_true("the cause is logged", async || instance.log().contains(why)).await;
}

#[tokio::test]
async fn a_url_that_does_not_fit_the_servers_is_explained() {
    let single = RedisServer::start().await;
    let url = format!("redis+cluster://127.0.0.1:{}", single.port());
    let instance = Instance::start(&Settings::new().with("REDIS_URL", &url)).await;
    let why = "REDIS_URL begins with redis+cluster, but the server is not part of a cluster";
    refuses(&instance, why).await;

    let scene = Scene::with(&[]).await;
    let url = format!("redis://127.0.0.1:{}", scene.redis.node(0).port());
    let instance = Instance::start(&Settings::new().with("REDIS_URL", &url)).await;
    refuses(&instance, "the server is part of a cluster; REDIS_URL must begin with redis+cluster:// or rediss+cluster://").await;

    let settings = super::scene::settings(&scene.redis, &[("PRESENCE_PARTITIONS", "16")]);
    let instance = Instance::start(&settings).await;
    refuses(
        &instance,
        "the store has 64 partitions, but PRESENCE_PARTITIONS is 16",
    )
    .await;
}

/// KeyDB and Redis 6 lack the one command, Upstash lacks the other.
#[tokio::test]
async fn a_server_without_a_needed_command_is_refused() {
    for (command, partitions, why) in [
        (
            "PEXPIRETIME",
            "1",
            "the server has no PEXPIRETIME; Redis 7.0 or newer is needed (KeyDB and Redis 6 do not work)",
        ),
        (
            "SSUBSCRIBE",
            "16",
            "the server has no sharded pub/sub, which PRESENCE_PARTITIONS above 1 needs",
        ),
    ] {
        let redis = RedisServer::start_with(&["--rename-command", command, ""]).await;
        let settings = Settings::new().with("REDIS_URL", &redis.url());
        let instance = Instance::start(&settings.with("PRESENCE_PARTITIONS", partitions)).await;
        refuses(&instance, why).await;
    }
}

#[tokio::test]
async fn slots_without_a_master_are_named() {
    let scene = Scene::with(&[]).await;
    let node = scene.redis.node(1);
    node.command::<()>(&["CLUSTER", "DELSLOTSRANGE", "6000", "7000"])
        .await;
    for other in [0, 2, 3, 4, 5] {
        // A node learns of new owners only, so each node has to forget the slots.
        let _ = scene
            .redis
            .node(other)
            .try_command::<()>(&["CLUSTER", "DELSLOTSRANGE", "6000", "7000"])
            .await;
    }
    let why = "no master serves the slots";
    eventually_true("the cause is known", async || {
        let answer = scene.client.get("/readyz").await;
        answer.status == 200 && answer.body.contains(why)
    })
    .await;
    // The thread that writes the log may be late.
    let warning = "the cluster lacks slots; calls of their users fail";
    let is_logged = async || scene.instance.log().contains(warning);
    eventually_true("the warning is logged", is_logged).await;
}
