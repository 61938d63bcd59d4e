//! Failovers by Redis Sentinel.

use harness::client::crowd;
use harness::instance::{Instance, Settings};
use harness::proxy::Proxy;
use harness::redis_server::RedisServer;
use harness::sentinels::Sentinels;
use harness::sse::{Stream, alternating};
use harness::wait::eventually_true;

use super::scene::{Scene, all_ready, settings};

async fn replica_of(primary: &RedisServer) -> RedisServer {
    let port = primary.port().to_string();
    let following = ["--save", "", "--replicaof", "127.0.0.1", &port];
    let replica = RedisServer::start_with(&following).await;
    replica.has_caught_up().await;
    replica
}

struct Watched {
    scene: Scene,
    sentinels: Sentinels,
    replica: RedisServer,
}

impl Watched {
    async fn start() -> Self {
        let primary = RedisServer::start().await;
        let replica = replica_of(&primary).await;
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

    /// Kills the primary when the replica has every event.
    async fn kill_the_primary(&mut self) {
        self.replica.has_everything_of(&self.scene.redis).await;
        self.scene.redis.kill();
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
    watched.kill_the_primary().await;
    watched.recover_on_the_replica().await;
}

/// Two of three sentinels are enough for a failover, and the third one delays nothing.
#[tokio::test]
async fn a_frozen_sentinel_does_not_delay_the_failover() {
    let mut watched = Watched::start().await;
    watched.sentinels.freeze_one();
    watched.kill_the_primary().await;
    watched.recover_on_the_replica().await;
}

/// The sentinels make the former primary a replica some 10 s later, here never. Until then it accepts calls, whose
/// effects are lost.
#[tokio::test]
async fn a_planned_failover_is_followed_although_the_former_primary_accepts_calls() {
    let primary = RedisServer::start().await;
    let replica = replica_of(&primary).await;
    let sentinels = Sentinels::of(&primary).await;
    let settings = Settings::new().with("REDIS_URL", &sentinels.url());
    let instances = [
        Instance::start(&settings).await,
        Instance::start(&settings).await,
    ];
    let clients = [instances[0].client(), instances[1].client()];
    all_ready(&clients).await;
    let mut streams = Vec::new();
    for client in &clients {
        streams.push(Stream::open(client, "").await);
    }
    let users = crowd("user", 8);
    clients[0].connect_each(&users).await;
    replica.has_everything_of(&primary).await;
    for command in ["replicaof", "slaveof"] {
        primary.allow(command, false).await;
    }
    sentinels.fail_over().await;
    let names = settings.names();
    let subscribers = match names.publish() {
        "PUBLISH" => "NUMSUB",
        _ => "SHARDNUMSUB",
    };
    let channel = &names.all("bus")[0];
    eventually_true("both instances use the new primary", async || {
        let words = ["PUBSUB", subscribers, channel];
        // A sentinel closes every connection to the server that it promotes.
        let counted = replica.try_command::<(String, u64)>(&words).await;
        counted.is_ok_and(|(_, count)| count == 2)
    })
    .await;
    all_ready(&clients).await;
    for (number, user) in users.iter().enumerate() {
        let left = clients[number % 2].disconnect(user).await;
        assert!(left.became_offline, "{user}");
    }
    for stream in &mut streams {
        let changes = alternating(&stream.changes(16).await);
        let stayed = changes
            .values()
            .any(|history| *history != ["online", "disconnected"]);
        assert!(!stayed, "{changes:?}");
    }
}
