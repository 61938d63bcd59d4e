//! The number of partitions of the users, which is recorded in Redis.

use std::collections::BTreeSet;

use harness::client::{Client, crowd};
use harness::instance::{Instance, Settings};
use harness::names::Names;
use harness::redis_server::{RedisServer, free_port};
use harness::wait::eventually_true;
use reqwest::StatusCode;
use serde_json::Value;

use crate::failures::scene::all_ready;

fn settings(redis: &RedisServer, partitions: &str) -> Settings {
    Settings::new()
        .with("REDIS_URL", &redis.url())
        .with("PRESENCE_PARTITIONS", partitions)
}

async fn start(redis: &RedisServer, partitions: &str) -> Instance {
    let instance = Instance::start(&settings(redis, partitions)).await;
    all_ready(&[instance.client()]).await;
    instance
}

/// Waits until the instance states this cause for not being ready.
async fn is_not_ready(client: &Client, cause: &str) {
    eventually_true(cause, async || {
        let answer = client.get("/readyz").await;
        answer.status == StatusCode::SERVICE_UNAVAILABLE
            && serde_json::from_str::<Value>(&answer.body).is_ok_and(|body| body["detail"] == cause)
    })
    .await;
}

async fn records(redis: &RedisServer, names: &Names) -> Vec<Option<String>> {
    let mut records = Vec::new();
    for name in names.all("layout") {
        records.push(redis.command(&["GET", &name]).await);
    }
    records
}

#[tokio::test]
async fn an_instance_with_another_number_of_partitions_serves_nothing_and_writes_nothing() {
    let redis = RedisServer::start().await;
    let right = start(&redis, "16").await;
    right.client().connect("alice").await;
    let states = Names::new("presence:", 16).all("states");
    eventually_true("all partitions were swept once", async || {
        redis.sum("EXISTS", &states, &[]).await == 16
    })
    .await;
    let before: BTreeSet<String> = redis.command(&["KEYS", "*"]).await;
    for (partitions, cause) in [
        (
            "64",
            "the store has 16 partitions, but PRESENCE_PARTITIONS is 64",
        ),
        (
            "1",
            "the store has 16 partitions, but PRESENCE_PARTITIONS is 1",
        ),
    ] {
        let wrong = Instance::start(&settings(&redis, partitions)).await;
        is_not_ready(&wrong.client(), cause).await;
        let refused = wrong.client().get("/v1/users/alice").await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        let log = wrong.log();
        let warnings = log
            .lines()
            .filter(|line| line.contains("redis unreachable"));
        let warnings: Vec<_> = warnings.filter(|line| line.contains("main")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].contains(cause), "{log}");
    }
    let after: BTreeSet<String> = redis.command(&["KEYS", "*"]).await;
    assert_eq!(after, before);
    assert!(right.client().user("alice").await.online);
}

#[tokio::test]
async fn several_partitions_are_refused_on_a_redis_with_one() {
    let redis = RedisServer::start().await;
    let _right = start(&redis, "1").await;
    let wrong = Instance::start(&settings(&redis, "16")).await;
    let cause = "the store has 1 partition, but PRESENCE_PARTITIONS is 16";
    is_not_ready(&wrong.client(), cause).await;
}

#[tokio::test]
async fn the_record_is_written_again_after_all_data_were_lost() {
    let redis = RedisServer::start().await;
    let instance = start(&redis, "16").await;
    let names = Names::new("presence:", 16);
    let all = vec![Some("1:16".to_owned()); 16];
    assert_eq!(records(&redis, &names).await, all);
    redis.flush_all().await;
    eventually_true("the records are back", async || {
        records(&redis, &names).await == all
    })
    .await;
    all_ready(&[instance.client()]).await;
}

#[tokio::test]
async fn an_instance_stops_when_it_finds_a_record_of_another_number() {
    let redis = RedisServer::start().await;
    let instance = start(&redis, "16").await;
    let names = Names::new("presence:", 16);
    let record = names.all("layout").swap_remove(3);
    redis.command::<()>(&["SET", &record, "1:64"]).await;
    let cause = "the store has 64 partitions, but PRESENCE_PARTITIONS is 16";
    is_not_ready(&instance.client(), cause).await;
    redis.command::<()>(&["SET", &record, "1:16"]).await;
    all_ready(&[instance.client()]).await;
}

/// Also all values between, whose tags are among those of 256 partitions.
#[tokio::test]
async fn the_keys_of_256_partitions_are_in_evenly_spaced_slots() {
    let redis = RedisServer::start().await;
    let _instance = start(&redis, "256").await;
    let records: Vec<String> = redis.command(&["KEYS", "presence:{*}:layout"]).await;
    let bus = free_port().to_string();
    let node = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let node = RedisServer::start_with(&node).await;
    let mut slots = BTreeSet::new();
    for record in records {
        slots.insert(node.command::<u16>(&["CLUSTER", "KEYSLOT", &record]).await);
    }
    assert!(
        slots
            .into_iter()
            .eq((0..256).map(|partition| partition * 64))
    );
}

#[tokio::test]
async fn a_number_of_partitions_that_cannot_be_is_refused_at_the_start() {
    for (url, partitions, why) in [
        (
            None,
            "16",
            "PRESENCE_PARTITIONS: has no effect without REDIS_URL, which is not set",
        ),
        (
            Some("redis+cluster://127.0.0.1:7000"),
            "1",
            "PRESENCE_PARTITIONS: must be 16 or more with a redis+cluster:// URL",
        ),
    ] {
        let settings = Settings::new().with("PRESENCE_PARTITIONS", partitions);
        let settings = match url {
            Some(url) => settings.with("REDIS_URL", url),
            None => settings,
        };
        let ended = Instance::run_to_its_end(&settings, &[]).await;
        assert_eq!(ended.status.code(), Some(2));
        assert!(ended.log.contains(why), "{}", ended.log);
    }
}

#[tokio::test]
async fn users_of_all_partitions_are_looked_up_counted_and_listed() {
    let redis = RedisServer::start().await;
    let instance = start(&redis, "16").await;
    let client = instance.client();
    // More users than an index that is listed in the order of the ids.
    let users = crowd("user", 1_200);
    client.connect_each(&users).await;
    let mut sizes = Vec::new();
    for index in Names::new("presence:", 16).all("deadlines") {
        sizes.push(redis.command::<u64>(&["ZCARD", &index]).await);
    }
    assert_eq!(sizes.iter().sum::<u64>(), 1_200 + 16);
    assert!(
        sizes.iter().all(|size| (40..120).contains(size)),
        "{sizes:?}"
    );
    assert_eq!(client.count().await, 1_200);
    assert_eq!(client.online_among(&users[..1_000]).await, users[..1_000]);
    let mut expected = users.clone();
    expected.sort_unstable();
    assert_eq!(client.everyone().await, expected);
}
