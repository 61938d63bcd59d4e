//! An instance on a cluster.

use std::collections::BTreeMap;

use harness::client::{Answer, Client, crowd, send};
use harness::instance::{Instance, Settings};
use harness::names::Names;
use harness::redis_cluster::RedisCluster;
use harness::wait::eventually_true;

/// The default number of partitions on a cluster.
const PARTITIONS: usize = 64;

pub(super) struct Scene {
    pub(super) redis: RedisCluster,
    pub(super) instance: Instance,
    pub(super) client: Client,
    pub(super) names: Names,
}

impl Scene {
    /// A cluster, and an instance with these variables.
    pub(super) async fn with(variables: &[(&'static str, &str)]) -> Self {
        let redis = RedisCluster::start().await;
        let settings = settings(&redis, variables);
        let instance = Instance::start(&settings).await;
        let client = instance.client();
        let names = Names::new("presence:", PARTITIONS);
        Self {
            redis,
            instance,
            client,
            names,
        }
    }

    /// Waits until the replica of `master` has everything that was written before.
    pub(super) async fn in_sync(&self, master: usize) {
        let replica = self.redis.node(self.redis.partner_of(master));
        replica.has_everything_of(self.redis.node(master)).await;
    }

    /// Makes a master accept no write for a while, and waits until its replica has everything and can replace it.
    pub(super) async fn quiesce(&self, master: usize) {
        self.redis.votes_have_expired(master).await;
        let pause = ["CLIENT", "PAUSE", "3000", "WRITE"];
        self.redis.node(master).command::<()>(&pause).await;
        self.in_sync(master).await;
    }

    /// Waits until the instance of `client` has swept the partition of `user`. A ping before the first sweep runs a
    /// script with all keys of the user, and a ping after it only extends one key.
    pub(super) async fn pings_only_extend(&self, client: &Client, user: &str) {
        let slot = self.names.slot(self.names.partition_of(user));
        let master = self.redis.node(self.redis.master_of_slot(slot).await);
        eventually_true("a ping only extends the key", async || {
            let before = master.calls_of("pexpire").await;
            client.ping(user).await;
            master.calls_of("pexpire").await > before
        })
        .await;
    }

    /// Users of each master.
    pub(super) async fn users_of_masters(&self, count: usize) -> BTreeMap<usize, Vec<String>> {
        let mut users = BTreeMap::<usize, Vec<String>>::new();
        let mut masters = BTreeMap::new();
        for master in self.redis.masters().await {
            for partition in self.redis.partitions_of(&self.names, master).await {
                masters.insert(partition, master);
            }
        }
        for user in crowd("user", count) {
            let master = masters[&self.names.partition_of(&user)];
            users.entry(master).or_default().push(user);
        }
        users
    }
}

/// The settings of an instance on `redis`.
pub(super) fn settings(redis: &RedisCluster, variables: &[(&'static str, &str)]) -> Settings {
    let partitions = PARTITIONS.to_string();
    let settings = Settings::new()
        .with("REDIS_URL", &redis.url())
        .with("PRESENCE_PARTITIONS", &partitions);
    variables.iter().fold(settings, |settings, (name, value)| {
        settings.with(name, value)
    })
}

/// The answer to a ping that may be refused.
pub(super) async fn try_ping(client: &Client, user: &str) -> Answer {
    send(client.of_user(user, "ping")).await
}
