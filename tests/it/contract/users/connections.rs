//! Several connections of one user.

use std::time::Duration;

use harness::client::send;
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::timestamp::Timestamp;
use serde_json::{Value, json};

async fn the_user_goes_offline_with_the_last_connection(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for connection in ["phone", "laptop", "tab"] {
        let connected = client.connect_as("alice", connection).await;
        assert_eq!(connected.connection_id, connection);
    }
    assert_eq!(
        client.user("alice").await.connection_ids(),
        ["laptop", "phone", "tab"]
    );
    for (connection, still_online) in [("phone", true), ("tab", true), ("laptop", false)] {
        let left = client.disconnect_as("alice", connection).await;
        assert_eq!(left.connection_id.as_deref(), Some(connection));
        assert_eq!(left.online, still_online, "{connection}");
        assert_eq!(left.became_offline, !still_online, "{connection}");
        assert_eq!(client.user("alice").await.online, still_online);
    }
}

async fn the_remaining_connections_are_listed(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect_as("alice", "phone").await;
    client.connect_as("alice", "laptop").await;
    client.disconnect_as("alice", "phone").await;
    assert_eq!(client.user("alice").await.connection_ids(), ["laptop"]);
    client.ping_as("alice", "laptop").await;
    assert_eq!(client.user("alice").await.connection_ids(), ["laptop"]);
}

async fn each_connection_has_its_own_expiry(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let phone = client.connect_as("alice", "phone").await;
    let laptop = client.connect_as("alice", "laptop").await;
    Timestamp::now()
        .plus(Duration::from_millis(50))
        .pass()
        .await;
    let phone_again = client.ping_as("alice", "phone").await;
    let user = client.user("alice").await;
    for connection in &user.connections {
        if connection.connection_id == "phone" {
            // The response to a ping promises no more than the store keeps.
            let beyond = connection.expires_at.millis_after(phone_again.expires_at);
            assert!((0..1_000).contains(&beyond), "{user:?}");
        } else {
            assert_eq!(connection.expires_at, laptop.expires_at, "{user:?}");
        }
    }
    assert!(phone_again.expires_at > phone.expires_at);
}

async fn a_repeated_connect_is_the_same_connection(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for _ in 0..3 {
        client.connect_as("alice", "phone").await;
        client.ping_as("alice", "phone").await;
    }
    assert_eq!(client.user("alice").await.connections.len(), 1);
    assert!(client.disconnect_as("alice", "phone").await.became_offline);
}

async fn a_disconnect_of_an_unknown_connection_takes_no_user_offline(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect_as("alice", "phone").await;
    for connection in ["laptop", "1", "phone:2", "pho"] {
        let left = client.disconnect_as("alice", connection).await;
        assert!(left.online && !left.became_offline, "{connection}");
    }
    assert_eq!(client.user("alice").await.connection_ids(), ["phone"]);
    let left = client.disconnect_as("nobody", "phone").await;
    assert!(!left.online && !left.became_offline);
}

async fn a_disconnect_of_another_connection_leaves_one_that_states_more(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for (place, stated) in [
        json!({"ttlMs": 30_000}),
        json!({"away": true}),
        json!({"groups": ["doc"]}),
        json!({"ttlMs": 30_000, "away": true, "groups": ["doc"]}),
    ]
    .iter()
    .enumerate()
    {
        let user = format!("user-{place}");
        let mut connect = stated.clone();
        connect["connectionId"] = json!("tab-2");
        let opened: Value = send(client.of_user(&user, "connect").json(&connect))
            .await
            .ok();
        assert_eq!(opened["becameOnline"], true, "{stated}");
        for other in ["1", "tab", "tab-20", "30000"] {
            let left = client.disconnect_as(&user, other).await;
            assert!(left.online && !left.became_offline, "{other} {stated}");
        }
        let left = client.disconnect_as(&user, "tab-2").await;
        assert!(!left.online && left.became_offline, "{stated}");
    }
}

async fn all_closes_every_connection(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    client.connect_as("alice", "phone").await;
    client.connect_as("alice", "laptop").await;
    let left = client.disconnect_all("alice").await;
    assert_eq!(left.user_id, "alice");
    assert!(!left.online && left.became_offline);
    assert!(client.user("alice").await.connections.is_empty());
    let again = client.disconnect_all("alice").await;
    assert!(!again.online && !again.became_offline);
}

async fn all_closes_an_only_connection(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    client.connect_as("bob", "phone").await;
    assert!(client.disconnect_all("alice").await.became_offline);
    assert!(client.disconnect_all("bob").await.became_offline);
    assert_eq!(client.count().await, 0);
}

async fn the_unnamed_connection_is_named_1(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    assert_eq!(client.connect("alice").await.connection_id, "1");
    assert_eq!(client.user("alice").await.connection_ids(), ["1"]);
    client.ping_as("alice", "1").await;
    assert_eq!(client.user("alice").await.connection_ids(), ["1"]);
    assert!(client.disconnect_as("alice", "1").await.became_offline);

    client.connect_as("alice", "1").await;
    let empty_object = client.of_user("alice", "ping").json(&json!({}));
    let pinged: Value = send(empty_object).await.ok();
    assert_eq!(
        (&pinged["connectionId"], &pinged["becameOnline"]),
        (&json!("1"), &json!(false))
    );
    assert!(client.disconnect("alice").await.became_offline);
}

async fn the_unnamed_connection_is_independent_of_named_ones(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect_as("alice", "phone").await;
    client.ping("alice").await;
    assert_eq!(client.user("alice").await.connection_ids(), ["1", "phone"]);
    assert!(!client.disconnect("alice").await.became_offline);
    assert!(client.disconnect_as("alice", "phone").await.became_offline);
}

async fn every_allowed_character_makes_a_connection_id(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let longest = "x".repeat(64);
    for connection in ["AZaz09._~:@-", &longest, "0", ".", "-", "a:b@c~d"] {
        assert_eq!(
            client.connect_as("alice", connection).await.connection_id,
            connection
        );
        let left = client.disconnect_as("alice", connection).await;
        assert!(left.became_offline, "{connection}");
    }
}

/// The content types of `navigator.sendBeacon(url, text)` and of a form.
async fn the_content_type_of_a_beacon_is_not_checked(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for media_type in [
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "nonsense",
    ] {
        for verb in ["connect", "ping", "disconnect"] {
            let request = client
                .of_user("alice", verb)
                .header("content-type", media_type);
            let request = request.body(r#"{"connectionId":"tab-7"}"#);
            let answer: Value = send(request).await.ok();
            assert_eq!(answer["connectionId"], "tab-7", "{verb} {media_type}");
        }
        assert!(!client.user("alice").await.online, "{media_type}");
    }
    client.connect("alice").await;
    let untyped = client
        .of_user("alice", "disconnect")
        .body(r#"{"all":true}"#);
    let left: Value = send(untyped).await.ok();
    assert_eq!(left["becameOffline"], true);
}

over_each_protocol!(
    the_user_goes_offline_with_the_last_connection,
    the_remaining_connections_are_listed,
    each_connection_has_its_own_expiry,
    a_repeated_connect_is_the_same_connection,
    a_disconnect_of_an_unknown_connection_takes_no_user_offline,
    a_disconnect_of_another_connection_leaves_one_that_states_more,
    all_closes_every_connection,
    all_closes_an_only_connection,
    the_unnamed_connection_is_named_1,
    the_unnamed_connection_is_independent_of_named_ones,
    every_allowed_character_makes_a_connection_id,
    the_content_type_of_a_beacon_is_not_checked,
);
