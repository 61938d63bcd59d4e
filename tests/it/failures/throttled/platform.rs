//! A platform that gives an instance a processor only while it serves a request.

use harness::client::Client;
use harness::instance::{Instance, Settings};
use harness::process::Signal;
use harness::redis_server::RedisServer;
use serde_json::json;

use crate::ops::webhooks::receiver::Receiver;

const SECRET: &str = "crm:whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(super) struct Platform {
    settings: Settings,
    /// Stopped, except during requests.
    instances: Vec<Instance>,
}

impl Platform {
    pub(super) async fn start(redis: &RedisServer, receiver: &Receiver, instances: usize) -> Self {
        let settings = Settings::mortal()
            .with("REDIS_URL", &redis.url())
            .with("PRESENCE_WEBHOOKS", &format!("crm:{}", receiver.url()))
            .with("PRESENCE_WEBHOOK_SECRETS", SECRET);
        let mut platform = Self {
            settings,
            instances: Vec::new(),
        };
        for _ in 0..instances {
            let instance = platform.started().await;
            platform.instances.push(instance);
        }
        platform
    }

    /// A new instance. It gets a processor until the first request is answered, which is a sweep here: it fixes where
    /// the receiver begins.
    async fn started(&self) -> Instance {
        let instance = Instance::start(&self.settings).await;
        let swept = instance.client().post("/v1/sweep", &json!({})).await;
        assert_eq!(swept.status, 200, "{}", swept.body);
        instance.send(Signal::Stop);
        instance
    }

    pub(super) fn instances(&self) -> usize {
        self.instances.len()
    }

    /// Lets an instance run while it answers `requests`.
    pub(super) async fn during<T>(
        &self,
        instance: usize,
        requests: impl AsyncFnOnce(Client) -> T,
    ) -> T {
        let instance = &self.instances[instance];
        instance.send(Signal::Continue);
        let answers = requests(instance.client()).await;
        instance.send(Signal::Stop);
        answers
    }

    /// Closes all connections to Redis, as a server or a network does with idle ones.
    pub(super) async fn close_connections(&self, redis: &RedisServer) {
        for kind in ["normal", "pubsub"] {
            let kill = ["CLIENT", "KILL", "TYPE", kind];
            redis.command::<usize>(&kill).await;
        }
    }

    /// Kills an instance while it stands still, and starts another one.
    pub(super) async fn replace(&mut self, instance: usize) {
        self.instances[instance].kill();
        self.instances[instance] = self.started().await;
    }
}
