//! A network that is slow, or loses everything on the open connections and tells nobody.

use std::time::Duration;

use harness::client::{crowd, try_send};
use harness::cluster::Cluster;
use harness::instance::{Instance, Settings};
use harness::proxy::Proxy;
use harness::sse::{Event, Stream, briefs};
use harness::wait::eventually_true;

/// Nothing ever comes on such a connection, not even its end: it has to be probed.
#[tokio::test]
async fn a_dead_connection_to_redis_is_found_out_and_no_event_is_lost() {
    let cluster = Cluster::of(1, Settings::new()).await;
    let proxy = Proxy::to(cluster.redis().port()).await;
    let settings = Settings::new().with("REDIS_URL", &proxy.url());
    let far = Instance::start(&settings).await;
    let mut stream = Stream::open(&far.client(), "").await;
    let near = cluster.client();
    near.connect("before").await;
    assert_eq!(stream.next().await.brief(), "online before");

    proxy.lose_open_connections();
    for user in crowd("user", 50) {
        near.connect(&user).await;
    }
    let expected: Vec<String> = crowd("online user", 50);
    assert_eq!(briefs(&stream.changes(50).await), expected);
}

#[tokio::test]
async fn calls_over_a_dead_connection_fail_soon_and_work_again_by_themselves() {
    let cluster = Cluster::of(1, Settings::new()).await;
    let proxy = Proxy::to(cluster.redis().port()).await;
    let settings = Settings::new().with("REDIS_URL", &proxy.url());
    let far = Instance::start(&settings).await;
    far.client().connect("alice").await;
    proxy.lose_open_connections();
    eventually_true("calls work again", async || {
        let ping = far.client().of_user("alice", "ping");
        let answer = try_send(ping.timeout(Duration::from_secs(10))).await;
        let status = answer.expect("an answer within ten seconds").status;
        assert!(status == 200 || status == 503, "{status}");
        status == 200
    })
    .await;
    assert!(cluster.client().user("alice").await.online);
}

/// A client may trust `expiresAt`, however long the answer of Redis was on its way.
#[tokio::test]
async fn an_answer_that_was_long_on_its_way_promises_no_time_the_user_does_not_have() {
    let cluster = Cluster::of(1, Settings::new()).await;
    let proxy = Proxy::to(cluster.redis().port()).await;
    let settings = Settings::new().with("REDIS_URL", &proxy.url());
    let instance = Instance::start(&settings).await;
    let far = instance.client();
    far.connect("alice").await;
    proxy.slow_replies(Duration::from_millis(300));
    let pinged = far.ping("alice").await;
    let connected = far.connect_as("bob", "phone").await;
    for (user, told) in [("alice", pinged), ("bob", connected)] {
        let true_deadline = cluster.client().user(user).await.connections[0].expires_at;
        let too_much = told.expires_at.millis_after(true_deadline);
        assert!(too_much <= 5, "{user} was promised {too_much} ms too much");
    }
}

/// What happened before a stream was opened is in its snapshot or its past, also where this instance has yet to hear
/// of it; it does not come again as a change.
#[tokio::test]
async fn a_stream_begins_at_what_the_store_holds_not_at_what_was_heard_of_it() {
    let cluster = Cluster::of(1, Settings::new()).await;
    let proxy = Proxy::to(cluster.redis().port()).await;
    let settings = Settings::new().with("REDIS_URL", &proxy.url());
    let far = Instance::start(&settings).await;
    let near = cluster.client();
    proxy.slow_replies(Duration::from_millis(300));
    for (query, cursor) in [
        ("", None),
        ("?snapshot=true", None),
        ("", Some("unknown")),
        ("?snapshot=true", Some("unknown")),
    ] {
        let user = format!("alice{}-{}", query.len(), cursor.is_some());
        near.connect(&user).await;
        let mut stream = match cursor {
            Some(cursor) => Stream::resume(&far.client(), query, cursor).await,
            None => Stream::open(&far.client(), query).await,
        };
        if !query.is_empty() {
            let ready = |event: &Event| event.name == "presence.ready";
            let snapshot = stream.collect_until(ready).await;
            assert!(!snapshot.iter().any(Event::is_change), "{snapshot:?}");
        }
        let events = stream
            .events_before_now(&near, &format!("after-{user}"))
            .await;
        let changes: Vec<_> = events.iter().filter(|event| event.is_change()).collect();
        assert!(changes.is_empty(), "{query} {cursor:?}: {events:?}");
    }
}
