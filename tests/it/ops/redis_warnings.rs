//! Warnings about the configuration of the Redis server.

use harness::instance::Instance;
use harness::redis_server::RedisServer;

use crate::failures::scene::{all_ready, settings};

async fn log_of_a_start_on(redis: &RedisServer) -> String {
    // Without a credential the log has a warning about open mode.
    let settings = settings().with("PRESENCE_API_KEYS", "a:presence.read:0123456789abcdef");
    let instance = Instance::start(&settings.with("REDIS_URL", &redis.url())).await;
    all_ready(&[instance.client()]).await;
    instance.log()
}

#[tokio::test]
async fn a_redis_that_evicts_keys_causes_a_warning_at_the_start() {
    let evicting = ["--save", "", "--maxmemory-policy", "allkeys-lru"];
    let redis = RedisServer::start_with(&evicting).await;
    let log = log_of_a_start_on(&redis).await;
    let warnings = log.matches("maxmemory-policy").count();
    assert_eq!(warnings, 1, "{log}");
    assert!(log.contains("allkeys-lru"), "{log}");
}

#[tokio::test]
async fn a_redis_that_keeps_its_keys_causes_no_warning() {
    let log = log_of_a_start_on(&RedisServer::start().await).await;
    assert!(!log.contains("WARN"), "{log}");
}
