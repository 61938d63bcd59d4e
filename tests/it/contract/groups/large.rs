//! Groups of thousands of users, which Redis replaces step by step.

use harness::client::{Client, crowd};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::groups::{count, delete, online, patch, put};
use harness::redis_server::RedisServer;

/// Members of the largest group by default.
const MOST: usize = 10_000;

/// Asserts that exactly `members` are in the group, of whom every thousandth is online.
async fn assert_members(client: &Client, group: &str, members: &[String]) {
    let here: Vec<_> = members.iter().step_by(1_000).cloned().collect();
    client.connect_each(&here).await;
    assert_eq!(count(client, group).await, (members.len(), here.len()));
    assert_eq!(online(client, group, 3).await, here);
    for user in &here {
        client.disconnect(user).await;
    }
}

async fn a_large_group_is_replaced(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let users = crowd("user", MOST + 3_000);
    let written = put(&client, "crowd", &users[..MOST]).await;
    assert_eq!(written.counts(), (MOST, MOST, 0));
    assert_members(&client, "crowd", &users[..MOST]).await;
    let written = put(&client, "crowd", &users[..MOST]).await;
    assert_eq!(written.counts(), (MOST, 0, 0));
    let written = put(&client, "crowd", &users[3_000..]).await;
    assert_eq!(written.counts(), (MOST, 3_000, 3_000));
    assert_members(&client, "crowd", &users[3_000..]).await;
    let written = put(&client, "crowd", &users[..2]).await;
    assert_eq!(written.counts(), (2, 2, MOST));
    let written = put(&client, "crowd", &users[..700]).await;
    assert_eq!(written.counts(), (700, 698, 0));
    assert_eq!(delete(&client, "crowd").await.counts(), (0, 0, 700));
    assert_eq!(count(&client, "crowd").await, (0, 0));
}

async fn a_large_change_is_one_step(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let users = crowd("user", 6_000);
    let ids: Vec<&str> = users.iter().map(String::as_str).collect();
    let written = patch(&client, "crowd", &ids, &[]).await;
    assert_eq!(written.counts(), (6_000, 6_000, 0));
    let written = patch(&client, "crowd", &[], &ids[1_000..]).await;
    assert_eq!(written.counts(), (1_000, 0, 5_000));
    assert_members(&client, "crowd", &users[..1_000]).await;
}

/// How long the slowest command of a replacement held Redis, in microseconds.
async fn slowest(redis: &RedisServer) -> u64 {
    let log: Vec<Vec<::redis::Value>> = redis.command(&["SLOWLOG", "GET", "1000"]).await;
    let micros = log.into_iter().filter_map(|entry| match entry.get(2) {
        Some(::redis::Value::Int(micros)) => u64::try_from(*micros).ok(),
        _ => None,
    });
    micros.max().unwrap_or(0)
}

/// No test asserts speed; a step that held Redis for as long as the whole list would is a defect of another kind.
#[tokio::test]
async fn no_step_of_a_replacement_takes_the_whole_list() {
    let deployment = Deployment::on_one_server(1, harness::instance::Settings::new()).await;
    let client = deployment.client();
    let users = crowd("user", 2 * MOST);
    put(&client, "crowd", &users[..MOST]).await;
    let redis = deployment.redis();
    redis
        .command::<String>(&["CONFIG", "SET", "slowlog-log-slower-than", "0"])
        .await;
    redis
        .command::<String>(&["CONFIG", "SET", "slowlog-max-len", "1000"])
        .await;
    redis.command::<String>(&["SLOWLOG", "RESET"]).await;
    let began = std::time::Instant::now();
    put(&client, "crowd", &users[MOST..]).await;
    let slowest = slowest(redis).await;
    println!(
        "replaced in {:?}; the slowest command took {slowest} us",
        began.elapsed()
    );
    let entries: Vec<String> = redis.command(&["KEYS", "*group-*"]).await;
    let rest = entries.iter().filter(|key| !key.contains("group-puts"));
    assert_eq!(rest.count(), 0, "{entries:?}");
}

on_both_stores!(a_large_group_is_replaced, a_large_change_is_one_step);
