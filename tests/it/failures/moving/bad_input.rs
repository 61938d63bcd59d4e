//! A next store that cannot be one is refused at the start, with the cause.

use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;
use harness::wait::eventually_true;
use reqwest::StatusCode;
use serde_json::Value;

use super::settings;
use crate::failures::scene::all_ready;

async fn is_refused(settings: Settings, why: &str) {
    let ended = Instance::run_to_its_end(&settings, &[]).await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.log);
    assert!(ended.log.contains(why), "{why}: {}", ended.log);
}

async fn is_not_ready(instance: &Instance, cause: &str) {
    eventually_true(cause, async || {
        let answer = instance.client().get("/readyz").await;
        answer.status == StatusCode::SERVICE_UNAVAILABLE
            && serde_json::from_str::<Value>(&answer.body).is_ok_and(|body| body["detail"] == cause)
    })
    .await;
}

#[tokio::test]
async fn settings_of_a_next_store_that_cannot_be_are_refused_at_the_start() {
    let redis = RedisServer::start().await;
    let present = settings(&redis.url());
    let next = |url: &str| present.clone().with("REDIS_URL_NEXT", url);
    for (settings, why) in [
        (
            next(&redis.url()).with("PRESENCE_PARTITIONS_NEXT", "16"),
            "REDIS_URL_NEXT: names the server of REDIS_URL; there, PRESENCE_KEY_PREFIX_NEXT must differ",
        ),
        // Another name of the same server.
        (
            next(&redis.url().replace("127.0.0.1", "localhost")),
            "REDIS_URL_NEXT: the next store is in use",
        ),
        (
            next(&redis.url().replace("127.0.0.1", "localhost"))
                .with("PRESENCE_PARTITIONS_NEXT", "16"),
            "REDIS_URL_NEXT: the store has 1 partition, but PRESENCE_PARTITIONS_NEXT is 16",
        ),
        (
            next(&redis.url().replace("redis://", "redis+cluster://"))
                .with("PRESENCE_KEY_PREFIX_NEXT", "next:"),
            "REDIS_URL_NEXT: REDIS_URL_NEXT begins with redis+cluster, but the server is not part of a cluster",
        ),
        (
            Settings::new().with("REDIS_URL_NEXT", &redis.url()),
            "REDIS_URL_NEXT: has no effect without REDIS_URL, which is not set",
        ),
        (next("http://localhost"), "REDIS_URL_NEXT: must be redis://"),
        (
            present.clone().with("PRESENCE_PARTITIONS_NEXT", "16"),
            "PRESENCE_PARTITIONS_NEXT: has no effect without REDIS_URL_NEXT, which is not set",
        ),
    ] {
        // The first start records the number of partitions of the present store.
        let present = Instance::start(&present).await;
        all_ready(&[present.client()]).await;
        is_refused(settings, why).await;
    }
}

#[tokio::test]
async fn a_store_of_others_is_no_next_store_and_a_store_that_is_filled_serves_nobody() {
    let (redis, other) = (RedisServer::start().await, RedisServer::start().await);
    let moving = settings(&redis.url()).with("REDIS_URL_NEXT", &other.url());
    let used = Instance::start(&settings(&other.url())).await;
    all_ready(&[used.client()]).await;
    is_refused(
        moving.clone(),
        "REDIS_URL_NEXT: the next store is in use; delete its keys",
    )
    .await;
    drop(used);
    other.flush_all().await;
    let moving = Instance::start(&moving).await;
    all_ready(&[moving.client()]).await;
    let early = Instance::start(&settings(&other.url())).await;
    let cause = "a move still fills this store; wait until the move has ended";
    is_not_ready(&early, cause).await;
    let refused = early.client().get("/v1/users/alice").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
}
