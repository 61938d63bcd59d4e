//! Many streams of own groups whose groups change at the same time.

use harness::client::{crowd, send};
use harness::deployment::Deployment;
use harness::groups::path_of;
use harness::names::partitions_of_tests;
use harness::sse::Stream;
use reqwest::Method;
use serde_json::json;

use super::{WRITE_KEY, claims, settings_with_credentials, token, with};

const STREAMS: usize = 300;

/// One group gets all users of the streams as members. Redis is asked for their states a few times, and not by each
/// stream.
#[tokio::test]
async fn streams_of_own_groups_share_the_states_of_a_group_that_all_join() {
    let deployment = Deployment::on_one_server(1, settings_with_credentials()).await;
    let client = deployment.client();
    let users = crowd("user", STREAMS);
    let connect = client.of_user(&users[0], "connect").bearer_auth(WRITE_KEY);
    assert_eq!(send(connect).await.status, 200);
    let mut streams = Vec::new();
    for user in &users {
        let own = token(&with(claims(user), "groups", json!("own")));
        let request = Stream::request(&client, "?snapshot=true").bearer_auth(own);
        let mut stream = Stream::send(request).await;
        assert_eq!(stream.next().await.name, "presence.ready");
        streams.push(stream);
    }
    // Nothing else uses `ZMSCORE` but a few commands of the writes.
    let asked = async || deployment.redis().calls_of("zmscore").await;
    let most = (STREAMS / 3 * partitions_of_tests()) as u64;
    let before = asked().await;
    let body = json!({ "members": users });
    let request = client.request(Method::PUT, &path_of("all-hands"));
    let written = send(request.bearer_auth(WRITE_KEY).json(&body)).await;
    assert_eq!(written.status, 200, "{written:?}");
    for stream in &mut streams {
        let seen = stream
            .collect_until(|event| event.name == "presence.snapshot")
            .await;
        let snapshot = seen[seen.len() - 1].json();
        assert_eq!(snapshot["groupId"], "all-hands");
        assert_eq!(snapshot["members"], STREAMS);
        assert_eq!(snapshot["online"], json!([users[0]]));
    }
    let calls = asked().await - before;
    assert!(calls < most, "{calls} calls for {STREAMS} streams");
}
