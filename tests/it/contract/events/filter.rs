//! The users that a stream is about.

use harness::client::crowd;
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::sse::{Stream, briefs};
use reqwest::Method;
use serde_json::json;

/// The next changes, sorted, because events of different users have no defined order.
async fn told(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut told = briefs(&stream.changes(count).await);
    told.sort_unstable();
    told
}

async fn a_stream_without_ids_is_about_all_users(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let by_post = client.request(Method::POST, "/v1/events").json(&json!({}));
    let mut streams = [Stream::open(&client, "").await, Stream::send(by_post).await];
    for user in ["alice", "bob"] {
        client.connect(user).await;
        for stream in &mut streams {
            assert_eq!(stream.changes(1).await[0].user(), user);
        }
    }
}

async fn a_filtered_stream_has_only_events_of_its_users(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    for query in [
        "?userIds=alice,bob,end",
        "?userIds=alice&userIds=bob&userIds=end",
        "?userIds=alice,bob&userIds=end,bob",
        "?userIds=alice%2Cbob%2Cend",
    ] {
        let mut stream = Stream::open(&client, query).await;
        for user in ["carol", "alice", "al", "alice2", "bob", "Bob", "end"] {
            client.connect(user).await;
        }
        assert_eq!(
            told(&mut stream, 3).await,
            ["online alice", "online bob", "online end"],
            "{query}"
        );
        for user in ["carol", "alice", "al", "alice2", "bob", "Bob", "end"] {
            client.disconnect(user).await;
        }
        assert_eq!(
            told(&mut stream, 3).await,
            ["offline alice", "offline bob", "offline end"],
            "{query}"
        );
    }
}

async fn ids_in_the_query_are_percent_decoded(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "?userIds=a%2Fb,%C3%A4%26,end").await;
    for user in ["a%2Fb", "a/b", "ä&", "end"] {
        client.connect(user).await;
    }
    assert_eq!(
        told(&mut stream, 3).await,
        ["online a/b", "online end", "online ä&"]
    );
}

async fn a_post_names_users_in_its_body(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let body = json!({"userIds": ["alice", "with,comma", "end"], "snapshot": false});
    let request = client.request(Method::POST, "/v1/events").json(&body);
    let mut stream = Stream::send(request).await;
    for user in ["with", "bob", "alice", "with,comma", "end"] {
        client.connect(user).await;
    }
    assert_eq!(
        told(&mut stream, 3).await,
        ["online alice", "online end", "online with,comma"]
    );
}

async fn a_post_takes_ten_thousand_ids(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let users: Vec<String> = (0..10_000).map(|each| format!("{each:0>96}")).collect();
    client.connect(&users[9_999]).await;
    let body = json!({"userIds": users, "snapshot": true});
    let request = client.request(Method::POST, "/v1/events").json(&body);
    let mut stream = Stream::send(request).await;
    assert_eq!(stream.snapshot().await, [&*users[9_999]]);
    client.connect("stranger").await;
    for user in [&users[0], &users[5_000]] {
        client.connect(user).await;
    }
    client.disconnect(&users[9_999]).await;
    let expected = [("offline", 9_999), ("online", 0), ("online", 5_000)];
    let expected = expected.map(|(change, at)| format!("{change} {}", users[at]));
    assert_eq!(told(&mut stream, 3).await, expected);
}

/// Streams with one common user and others of their own do not affect each other.
async fn overlapping_filters_each_get_their_own_events(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let users = crowd("user", 10);
    let mut streams = Vec::new();
    for pair in users.windows(2) {
        let query = format!("?userIds={},{},end", pair[0], pair[1]);
        streams.push((pair, Stream::open(&client, &query).await));
    }
    drop(streams.remove(4));
    for user in users.iter().map(String::as_str).chain(["end"]) {
        client.connect(user).await;
    }
    for (pair, mut stream) in streams {
        let expected = ["end", &pair[0], &pair[1]].map(|user| format!("online {user}"));
        assert_eq!(told(&mut stream, 3).await, expected);
    }
}

over_each_protocol!(
    a_stream_without_ids_is_about_all_users,
    a_filtered_stream_has_only_events_of_its_users,
    ids_in_the_query_are_percent_decoded,
    a_post_names_users_in_its_body,
    a_post_takes_ten_thousand_ids,
    overlapping_filters_each_get_their_own_events,
);
