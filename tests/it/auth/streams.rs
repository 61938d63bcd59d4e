//! Streams: the token in the query, the end with the token, and the limits of streams.

use std::time::Duration;

use harness::client::{query_of, send};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::Instance;
use harness::sse::{End, Stream};
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use super::{
    READ_KEY, WRITE_KEY, assert_refused, claims, instance_with_credentials, now, ping,
    settings_with_credentials, token, with,
};

#[tokio::test]
async fn a_token_in_the_query_is_accepted_for_streams_only() {
    let instance = instance_with_credentials().await;
    let client = instance.client();
    let alice = token(&claims("alice"));
    let query = query_of(&[("userIds", "alice"), ("access_token", &alice)]);
    let mut stream = Stream::open(&client, &query).await;
    ping(&client, "alice", WRITE_KEY).await;
    assert_eq!(stream.next().await.brief(), "online alice");
    let by_post = client.request(Method::POST, &format!("/v1/events?access_token={alice}"));
    Stream::send(by_post.json(&json!({"userIds": ["alice"]}))).await;
    let by_key = query_of(&[("access_token", READ_KEY)]);
    Stream::open(&client, &by_key).await;
    for (method, path) in [
        (Method::GET, "/v1/users/alice"),
        (Method::POST, "/v1/users/alice/ping"),
        (Method::POST, "/v1/users/alice/disconnect"),
        (Method::GET, "/v1/online"),
        (Method::GET, "/v1/online/count"),
    ] {
        for credential in [&*alice, READ_KEY, WRITE_KEY] {
            let path = format!("{path}?access_token={credential}");
            assert_refused(
                &send(client.request(method.clone(), &path)).await,
                401,
                &path,
            );
        }
    }
    for query in [
        "?access_token=".to_owned(),
        "?access_token=forged".to_owned(),
        "?access_token=%FF".to_owned(),
        format!("?Access_Token={alice}"),
        format!("?access_token={alice}&access_token={alice}"),
    ] {
        let answer = client.get(&format!("/v1/events{query}")).await;
        assert!(
            matches!(answer.status.as_u16(), 400 | 401),
            "{query}: {}",
            answer.status
        );
    }
}

async fn a_stream_ends_with_its_token_and_resumes_with_a_fresh_token(store: Store) {
    let deployment = Deployment::with(store, settings_with_credentials()).await;
    let client = deployment.client();
    let watching = |seconds: u64| {
        let claims = with(claims("bob"), "watch", json!(["alice"]));
        token(&with(claims, "exp", json!(now() + seconds)))
    };
    let open = async |token: &str, cursor: &str| {
        let request = Stream::request(&client, "?userIds=alice").bearer_auth(token);
        Stream::send(request.header("Last-Event-ID", cursor)).await
    };
    let began = Instant::now();
    let mut stream = open(&watching(3), "").await;
    ping(&client, "alice", WRITE_KEY).await;
    assert_eq!(stream.next().await.brief(), "online alice");
    let end = stream.end(Duration::from_secs(10)).await;
    assert_eq!(end, Some(End::Clean));
    assert_eq!(stream.end_reason().as_deref(), Some("token-expired"));
    let lived = began.elapsed();
    let range = Duration::from_millis(1_500)..Duration::from_millis(4_500);
    assert!(range.contains(&lived), "the stream lived for {lived:?}");
    let leave = client.of_user("alice", "disconnect").bearer_auth(WRITE_KEY);
    assert_eq!(send(leave).await.status, 200);
    let mut resumed = open(&watching(300), &stream.last_id()).await;
    assert_eq!(resumed.next().await.brief(), "offline alice");
    let connect = client.of_user("alice", "connect").bearer_auth(WRITE_KEY);
    assert_eq!(send(connect).await.status, 200);
    assert_eq!(resumed.next().await.brief(), "online alice");
    assert_eq!(resumed.unread(), []);
}

#[tokio::test]
async fn streams_are_limited_per_caller_and_per_instance() {
    let settings = settings_with_credentials()
        .with("PRESENCE_STREAMS_PER_CALLER", "2")
        .with("PRESENCE_STREAMS", "5");
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let request = |user: &str, credential: &str| {
        Stream::request(&client, &format!("?userIds={user}")).bearer_auth(credential)
    };
    let of = |user: &str| request(user, &token(&claims(user)));
    let mut streams = vec![
        Stream::send(of("alice")).await,
        Stream::send(of("alice")).await,
    ];
    let refused = send(of("alice")).await;
    let problem = assert_refused(&refused, 429, "the third stream of a user");
    assert!(!refused.header("retry-after").is_empty());
    streams.push(Stream::send(request("carol", READ_KEY)).await);
    streams.push(Stream::send(request("carol", READ_KEY)).await);
    assert_refused(
        &send(request("carol", READ_KEY)).await,
        429,
        "the third stream of a key",
    );
    streams.push(Stream::send(of("bob")).await);
    let full = assert_refused(
        &send(of("dave")).await,
        429,
        "the sixth stream of the instance",
    );
    assert_eq!(full["type"], problem["type"]);
    streams.truncate(1);
    eventually_true("a closed stream frees its place", async || {
        let response = of("alice").send().await.expect("an answer");
        response.status() == 200
    })
    .await;
}

#[tokio::test]
async fn a_list_needs_the_permission_of_a_stream_and_counts_as_one_only_while_it_waits() {
    let settings = settings_with_credentials().with("PRESENCE_STREAMS_PER_CALLER", "1");
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let list = |query: &str| {
        let request = Stream::request(&client, query);
        request.header("Accept", "application/json")
    };
    let alice = token(&claims("alice"));
    let query = |wait: &str| {
        let pairs = [
            ("userIds", "alice"),
            ("waitMs", wait),
            ("access_token", &*alice),
        ];
        query_of(&pairs)
    };
    assert_eq!(send(list(&query("1"))).await.status, 200);
    for (request, status, what) in [
        (list(""), 401, "no credential"),
        (list("").bearer_auth(&alice), 403, "all users"),
        (
            list("?userIds=bob").bearer_auth(&alice),
            403,
            "another user",
        ),
        (
            list("?userIds=bob").bearer_auth(WRITE_KEY),
            403,
            "a key that only writes",
        ),
    ] {
        assert_refused(&send(request).await, status, what);
    }
    let _stream = Stream::send(Stream::request(&client, &query("0"))).await;
    let refused = send(list(&query("1"))).await;
    assert_refused(&refused, 429, "a wait beside the only stream");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(send(list(&query("0"))).await.status, 200);
}

on_both_stores!(a_stream_ends_with_its_token_and_resumes_with_a_fresh_token);
