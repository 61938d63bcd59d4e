//! Webhooks about groups whose members are in other partitions.

use harness::groups::put;
use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;
use reqwest::Method;
use serde_json::{Value, json};

use super::is_registered;
use super::receiver::{Conduct, Received, Receiver};

/// The events of accepted webhooks.
fn accepted(receiver: &Receiver) -> Vec<Value> {
    let received = receiver.received();
    let accepted = received
        .iter()
        .filter(|each| each.conduct == Conduct::Answer(204));
    let bodies = accepted.map(|each| serde_json::from_str::<Value>(&each.body).expect("JSON"));
    let events = bodies.flat_map(|body| body["data"]["events"].as_array().expect("a list").clone());
    events.collect()
}

/// The users that were online when they joined `group`.
async fn online_in(receiver: &Receiver, group: &str) -> Vec<String> {
    let joined = harness::wait::eventually("the members join", async || {
        let mut events = accepted(receiver).into_iter();
        events.find(|each| each["event"] == "group.joined" && each["data"]["groupId"] == group)
    })
    .await;
    let mut online: Vec<String> =
        serde_json::from_value(joined["data"]["online"].clone()).expect("users");
    online.sort_unstable();
    online
}

#[tokio::test]
async fn a_join_names_the_online_users_of_all_partitions() {
    let receiver = Receiver::start(Conduct::Answer(204)).await;
    let redis = RedisServer::start().await;
    let settings = receiver
        .registered_in(Settings::new())
        .with("REDIS_URL", &redis.url())
        .with("PRESENCE_PARTITIONS", "16");
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    is_registered(&client).await;
    let users = ["alice", "bob", "carol", "dave"];
    for user in users {
        client.connect(user).await;
    }
    put(&client, "team", &["alice", "bob", "carol", "dave", "zoe"]).await;
    assert_eq!(online_in(&receiver, "team").await, users);

    // The user comes online and joins nearly at once.
    let path = "/v1/users/erin/connect";
    let connect = client
        .request(Method::POST, path)
        .json(&json!({"groups": ["doc"]}));
    assert_eq!(harness::client::send(connect).await.status, 200);
    assert_eq!(online_in(&receiver, "doc").await, ["erin"]);
    let about_erin = |event: &Value| {
        let data = &event["data"];
        data["userId"] == "erin" || data["userIds"] == json!(["erin"])
    };
    let events = accepted(&receiver).into_iter().filter(about_erin);
    let names: Vec<Value> = events.map(|event| event["event"].clone()).collect();
    assert_eq!(names, ["user.online", "group.joined"]);

    // The webhook stays the same while the users change.
    receiver.now(Conduct::Answer(500));
    let before = receiver.received().len();
    put(&client, "other", &["alice", "bob", "zoe"]).await;
    receiver.attempts(before + 1).await;
    client.disconnect("alice").await;
    client.connect("zoe").await;
    receiver.now(Conduct::Answer(204));
    assert_eq!(online_in(&receiver, "other").await, ["alice", "bob"]);
    let received = receiver.received();
    let first = &received[before];
    let same: Vec<&Received> = received
        .iter()
        .filter(|each| each.id() == first.id())
        .collect();
    assert!(
        same.len() > 1 && same.iter().all(|each| each.body == first.body),
        "{received:?}"
    );
}
