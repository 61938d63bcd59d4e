//! Some instances on one store: a Redis server of their own, or the embedded store.
//!
//! With `PRESENCE_TEST_CLUSTER`, the URL of a Redis Cluster, the tests share that cluster instead, each with a prefix
//! of its own. They look into the data of their instances with [`Deployment::command`]. Tests that break their server,
//! or look at more than their data, still have a server of their own: [`Deployment::on_one_server`].

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use redis::FromRedisValue;

use crate::client::{Client, Protocol};
use crate::instance::{Instance, Settings};
use crate::names::{Names, cluster_of_tests};
use crate::redis_server::RedisServer;
use crate::shared_cluster::SharedCluster;

/// The store of a test, and the protocol of its client if that is not HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Embedded,
    EmbeddedOver(Protocol),
    Redis,
}

/// The number of tests so far that use the shared Redis Cluster.
static SHARING: AtomicUsize = AtomicUsize::new(0);

/// Running instances on one store.
pub struct Deployment {
    pub instances: Vec<Instance>,
    redis: Option<RedisServer>,
    settings: Settings,
}

impl Deployment {
    /// One instance with the default settings.
    pub async fn start(store: Store) -> Self {
        Self::with(store, Settings::new()).await
    }

    /// One instance with `settings`.
    pub async fn with(store: Store, settings: Settings) -> Self {
        match store {
            Store::EmbeddedOver(protocol) => {
                Box::pin(Self::with(Store::Embedded, settings.over(protocol))).await
            }
            Store::Embedded => {
                let instances = vec![Instance::start(&settings).await];
                Self {
                    instances,
                    redis: None,
                    settings,
                }
            }
            Store::Redis => Self::of(1, settings).await,
        }
    }

    /// `count` instances on one Redis server, or on the shared cluster.
    pub async fn of(count: usize, settings: Settings) -> Self {
        let Some(url) = cluster_of_tests() else {
            return Self::on_one_server(count, settings).await;
        };
        let test = SHARING.fetch_add(1, Relaxed);
        let prefix = format!("{}-{test}:{}", std::process::id(), settings.prefix());
        let settings = settings.with("PRESENCE_KEY_PREFIX", &prefix);
        Self::at(count, settings.with("REDIS_URL", &url), None).await
    }

    /// `count` instances on a Redis server of their own, which the test may look into and break.
    pub async fn on_one_server(count: usize, settings: Settings) -> Self {
        let redis = RedisServer::start().await;
        let settings = settings.with("REDIS_URL", &redis.url());
        Self::at(count, settings, Some(redis)).await
    }

    async fn at(count: usize, settings: Settings, redis: Option<RedisServer>) -> Self {
        let mut deployment = Self {
            instances: Vec::new(),
            redis,
            settings,
        };
        for _ in 0..count {
            deployment.add_instance().await;
        }
        deployment
    }

    /// Starts another instance with the same settings.
    pub async fn add_instance(&mut self) {
        let instance = Instance::start(&self.settings).await;
        self.instances.push(instance);
    }

    /// Starts an instance at the address of the ended instance `number`.
    pub async fn replace(&mut self, number: usize) {
        let address = self.instances[number].address().to_string();
        let settings = self.settings.clone().with("PRESENCE_LISTEN", &address);
        self.instances[number] = Instance::start(&settings).await;
    }

    /// A client of the first instance.
    pub fn client(&self) -> Client {
        self.instances[0].client()
    }

    /// One client of each instance.
    pub fn clients(&self) -> Vec<Client> {
        self.instances.iter().map(Instance::client).collect()
    }

    /// The Redis server of [`Deployment::on_one_server`]. Panics on another store.
    pub fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("a Redis server of its own")
    }

    /// The Redis server of [`Deployment::on_one_server`], to stop or restart it. Panics on another store.
    pub fn redis_mut(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("a Redis server of its own")
    }

    /// Runs one command about keys of one partition at the server that has them. Panics if the command fails.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        match &self.redis {
            Some(redis) => redis.command(words).await,
            None => SharedCluster::connect().await.command(words).await,
        }
    }

    /// The sum of the replies to `command` for the key `name` of each partition, with `more` after the key.
    pub async fn sum(&self, command: &str, name: &str, more: &[&str]) -> u64 {
        let keys = self.names().all(name);
        if let Some(redis) = &self.redis {
            return redis.sum(command, &keys, more).await;
        }
        let (mut shared, mut sum) = (SharedCluster::connect().await, 0);
        for key in &keys {
            let words = [&[command, &**key], more].concat();
            sum += shared.command::<u64>(&words).await;
        }
        sum
    }

    /// The names of the keys of the instances in Redis.
    pub fn names(&self) -> Names {
        self.settings.names()
    }

    /// The settings of the instances.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Makes two tests of each named body, an `async fn(Store)`: `embedded::name` and `redis::name`.
///
/// The compiler reports a body that is not named here as dead code.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::deployment::Store::Embedded).await;
            })+
        }
        mod redis {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::deployment::Store::Redis).await;
            })+
        }
    };
}
pub use crate::on_both_stores;

/// Makes four tests of each named body: those of [`on_both_stores`], and `http1_0::name` and `http2::name` on the
/// embedded store.
#[macro_export]
macro_rules! over_each_protocol {
    ($($name:ident),+ $(,)?) => {
        $crate::on_both_stores!($($name),+);
        mod http1_0 {
            $(#[tokio::test]
            async fn $name() {
                let protocol = $crate::client::Protocol::Http10;
                super::$name($crate::deployment::Store::EmbeddedOver(protocol)).await;
            })+
        }
        mod http2 {
            $(#[tokio::test]
            async fn $name() {
                let protocol = $crate::client::Protocol::Http2;
                super::$name($crate::deployment::Store::EmbeddedOver(protocol)).await;
            })+
        }
    };
}
pub use crate::over_each_protocol;
