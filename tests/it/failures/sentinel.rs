//! Failovers by Redis Sentinel.

use harness::proxy::Proxy;
use harness::redis_server::RedisServer;
use harness::sentinels::Sentinels;
use harness::wait::eventually_true;

use super::scene::{Scene, settings};

struct Watched {
    scene: Scene,
    sentinels: Sentinels,
    replica: RedisServer,
}

impl Watched {
    async fn start() -> Self {
        let primary = RedisServer::start().await;
        let port = primary.port().to_string();
        let following = ["--save", "", "--replicaof", "127.0.0.1", &port];
        let replica = RedisServer::start_with(&following).await;
        replica.has_caught_up().await;
        let sentinels = Sentinels::of(&primary).await;
        // The proxy has no connection here, because the sentinels name the servers.
        let proxy = Proxy::to(primary.port()).await;
        let settings = settings().with("REDIS_URL", &sentinels.url());
        Self {
            scene: Scene::of(primary, proxy, settings).await,
            sentinels,
            replica,
        }
    }

    async fn recover_on_the_replica(&mut self) {
        let replica = &self.replica;
        let scene = &self.scene;
        eventually_true("the replica is the primary", async || {
            scene.call_everything().await;
            // A sentinel closes every connection to the server that it promotes.
            let info = replica
                .try_command::<String>(&["INFO", "replication"])
                .await;
            info.is_ok_and(|info| info.contains("role:master"))
        })
        .await;
        self.scene.recover().await;
        self.scene.assert_nothing_lost();
    }
}

#[tokio::test]
async fn instances_follow_the_sentinels_to_the_new_primary() {
    let mut watched = Watched::start().await;
    watched.scene.redis.kill();
    watched.recover_on_the_replica().await;
}

/// Two of three sentinels are enough for a failover, and the third one delays nothing.
#[tokio::test]
async fn a_frozen_sentinel_does_not_delay_the_failover() {
    let mut watched = Watched::start().await;
    watched.sentinels.freeze_one();
    watched.scene.redis.kill();
    watched.recover_on_the_replica().await;
}

/// The old primary becomes a replica, so connections to it may stay open.
#[tokio::test]
async fn a_planned_failover_is_followed() {
    let mut watched = Watched::start().await;
    watched.sentinels.fail_over().await;
    watched.recover_on_the_replica().await;
}
