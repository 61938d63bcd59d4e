//! Settings that do not fit the servers.

use std::time::Duration;

use harness::client::Client;
use harness::instance::{Instance, Settings};
use harness::redis_server::{RedisServer, free_port};
use harness::wait::eventually_true;
use tokio::time::sleep;

use super::scene::Scene;
use crate::failures::scene::all_ready;

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

/// A node that was reset, or that never joined, knows no slot of the others.
#[tokio::test]
async fn a_seed_that_is_alone_is_not_believed() {
    let scene = Scene::with(&[]).await;
    let bus = free_port().to_string();
    let clustered = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let alone = RedisServer::start_with(&clustered).await;
    let url = format!(
        "redis+cluster://127.0.0.1:{},127.0.0.1:{}",
        alone.port(),
        scene.redis.node(0).port()
    );
    let instance = Instance::start(&Settings::new().with("REDIS_URL", &url)).await;
    all_ready(&[instance.client()]).await;
    let log = instance.log();
    assert!(!log.contains("lacks slots"), "{log}");
}

/// The users of the other masters are served, so the instance stays behind its load balancer.
#[tokio::test]
async fn a_master_that_refuses_the_user_is_named_in_the_log_and_readyz_says_why() {
    let scene = Scene::with(&[]).await;
    for node in 0..6 {
        let all = ["ACL", "SETUSER", "ann", "on", ">right", "~*", "&*", "+@all"];
        scene.redis.node(node).command::<()>(&all).await;
    }
    let url = scene.redis.url().replace("://", "://ann:right@");
    let settings = super::scene::settings(&scene.redis, &[("REDIS_URL", &url)]);
    let node = scene.redis.node(1);
    for (harm, mend, why) in [
        (
            ["resetpass", ">other"],
            ["resetpass", ">right"],
            "the server refuses the user or the password of REDIS_URL",
        ),
        (
            ["-zadd", "-xadd"],
            ["+zadd", "+xadd"],
            "the Redis user may not run these commands on the keys and channels of the service: XADD, ZADD",
        ),
        (
            ["-ssubscribe", "-subscribe"],
            ["+ssubscribe", "+subscribe"],
            "the Redis user may not run these commands on the keys and channels of the service: SSUBSCRIBE",
        ),
    ] {
        let user = ["ACL", "SETUSER", "ann"];
        node.command::<()>(&[&user[..], &harm].concat()).await;
        let instance = Instance::start(&settings).await;
        let client = instance.client();
        let reason = format!("1 of 3 masters cannot be used: {why}");
        eventually_true("the reason is known", async || {
            let answer = client.get("/readyz").await;
            answer.status == 200 && answer.body.contains(&reason)
        })
        .await;
        let address = format!("127.0.0.1:{}", node.port());
        eventually_true("the log has the node and the cause", async || {
            let log = instance.log();
            let mut lines = log.lines();
            lines.any(|line| {
                let is_about = ["redis unreachable", why, &address];
                is_about.iter().all(|part| line.contains(part))
            })
        })
        .await;
        node.command::<()>(&[&user[..], &mend].concat()).await;
        eventually_true("all masters are used", async || {
            let answer = client.get("/readyz").await;
            answer.status == 200 && !answer.body.contains("masters")
        })
        .await;
    }
}

/// Each attempt begins with another seed, and the log has the causes of all seeds once.
#[tokio::test]
async fn seeds_that_are_out_of_reach_are_logged_once() {
    let web = Instance::start(&Settings::new()).await;
    let seeds = [
        "127.0.0.1:1".to_owned(),
        "presence.invalid:7000".to_owned(),
        web.address().to_string(),
    ];
    let url = format!("redis+cluster://{}", seeds.join(","));
    let instance = Instance::start(&Settings::new().with("REDIS_URL", &url)).await;
    refuses(&instance, "the protocol of Redis").await;
    // Longer than it takes until an attempt begins with the next seed.
    sleep(Duration::from_secs(3)).await;
    let log = instance.log();
    let lines: Vec<_> = log.lines().collect();
    let about: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("redis unreachable"))
        .collect();
    assert_eq!(about.len(), 1, "{log}");
    assert!(seeds.iter().all(|seed| about[0].contains(seed)), "{log}");
}

#[tokio::test]
async fn a_url_with_tls_for_a_server_without_tls_is_explained() {
    let redis = RedisServer::start().await;
    for scheme in ["rediss", "rediss+cluster"] {
        let url = format!("{scheme}://127.0.0.1:{}", redis.port());
        let instance = Instance::start(&Settings::new().with("REDIS_URL", &url)).await;
        refuses(&instance, "the server does not answer with TLS").await;
    }
}
