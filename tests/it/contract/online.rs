//! The lookup, the list of online users, and the count.

mod keys;
mod pages;

use harness::client::crowd;
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use serde_json::{Value, json};

async fn a_lookup_lists_the_online_users_in_the_order_of_the_request(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for user in ["alice", "bob", "carol"] {
        client.connect(user).await;
    }
    let found = client
        .online_among(&["carol", "nobody", "alice", "dave", "bob"])
        .await;
    assert_eq!(found, ["carol", "alice", "bob"]);
    client.disconnect("alice").await;
    let found = client
        .online_among(&["carol", "nobody", "alice", "dave", "bob"])
        .await;
    assert_eq!(found, ["carol", "bob"]);
}

async fn a_lookup_does_not_repeat(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    client.connect("bob").await;
    let found = client
        .online_among(&["bob", "alice", "bob", "nobody", "alice", "bob"])
        .await;
    assert_eq!(found, ["bob", "alice"]);
}

async fn a_lookup_answers_one_field(store: Store) {
    let deployment = Deployment::start(store).await;
    let answer = deployment
        .client()
        .post("/v1/online", &json!({"userIds": ["nobody"]}))
        .await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.ok::<Value>(), json!({"online": []}));
}

async fn a_lookup_takes_a_thousand_of_the_longest_ids(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let users: Vec<String> = (0..1_000).map(|each| format!("{each:0>128}")).collect();
    let online: Vec<String> = users.iter().step_by(3).cloned().collect();
    client.connect_each(&online).await;
    assert_eq!(client.online_among(&users).await, online);
}

async fn a_lookup_sees_users_with_several_connections(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect_as("alice", "phone").await;
    client.connect_as("alice", "laptop").await;
    assert_eq!(client.online_among(&["alice"]).await, ["alice"]);
    client.disconnect_as("alice", "laptop").await;
    assert_eq!(client.online_among(&["alice"]).await, ["alice"]);
    client.disconnect_as("alice", "phone").await;
    assert!(client.online_among(&["alice"]).await.is_empty());
}

async fn the_lookup_limit_is_a_setting(store: Store) {
    let settings = Settings::new().with("PRESENCE_LOOKUP_LIMIT", "3");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let ask = async |count| {
        let body = json!({"userIds": crowd("user", count)});
        client.post("/v1/online", &body).await.status.as_u16()
    };
    assert_eq!(ask(3).await, 200);
    assert_eq!(ask(4).await, 400);
}

async fn the_count_follows_every_connect_and_disconnect(store: Store) {
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    assert_eq!(client.count().await, 0);
    let connected = client.connect_each(&crowd("user", 30)).await;
    assert_eq!(client.count().await, 30);
    client.connect_as("user-00000", "second").await;
    assert_eq!(client.count().await, 30);
    client.disconnect("user-00001").await;
    assert_eq!(client.count().await, 29);
    client.disconnect("user-00001").await;
    assert_eq!(client.count().await, 29);
    let last = connected.iter().map(|each| each.expires_at).max();
    last.expect("30 of them")
        .plus(std::time::Duration::from_secs(1))
        .pass()
        .await;
    assert_eq!(client.count().await, 0);
}

over_each_protocol!(
    a_lookup_lists_the_online_users_in_the_order_of_the_request,
    a_lookup_does_not_repeat,
    a_lookup_answers_one_field,
    a_lookup_takes_a_thousand_of_the_longest_ids,
    a_lookup_sees_users_with_several_connections,
    the_lookup_limit_is_a_setting,
    the_count_follows_every_connect_and_disconnect,
);
