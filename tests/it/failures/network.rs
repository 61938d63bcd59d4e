//! The network between an instance and Redis is down, slow, or loses everything on the open connections.

use std::time::Duration;

use harness::client::{crowd, try_send};
use harness::deployment::Deployment;
use harness::instance::{Instance, Settings};
use harness::names::partitions_of_tests;
use harness::proxy::Proxy;
use harness::sse::{Event, Stream, briefs};
use harness::wait::eventually_true;

use super::scene::Scene;

/// Nothing arrives on such a connection, not even its end, so the service has to probe it.
#[tokio::test]
async fn a_dead_bus_connection_is_detected_and_loses_no_event() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let proxy = Proxy::to(deployment.redis().port()).await;
    let settings = Settings::new().with("REDIS_URL", &proxy.url());
    let far = Instance::start(&settings).await;
    let mut stream = Stream::open(&far.client(), "").await;
    let near = deployment.client();
    near.connect("before").await;
    assert_eq!(stream.next().await.brief(), "online before");

    proxy.lose_open_connections();
    for user in crowd("user", 50) {
        near.connect(&user).await;
    }
    let expected: Vec<String> = crowd("online user", 50);
    let mut told = briefs(&stream.changes(50).await);
    if partitions_of_tests() > 1 {
        told.sort_unstable();
    }
    assert_eq!(told, expected);
}

#[tokio::test]
async fn calls_over_a_dead_connection_fail_and_recover() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let proxy = Proxy::to(deployment.redis().port()).await;
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
    assert!(deployment.client().user("alice").await.online);
}

/// Clients may rely on `expiresAt`, however long the answer of Redis took.
#[tokio::test]
async fn a_delayed_answer_of_redis_does_not_extend_the_promised_expiry() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let proxy = Proxy::to(deployment.redis().port()).await;
    let settings = Settings::new().with("REDIS_URL", &proxy.url());
    let instance = Instance::start(&settings).await;
    let far = instance.client();
    far.connect("alice").await;
    proxy.slow_replies(Duration::from_millis(300));
    let pinged = far.ping("alice").await;
    let connected = far.connect_as("bob", "phone").await;
    for (user, told) in [("alice", pinged), ("bob", connected)] {
        let true_deadline = deployment.client().user(user).await.connections[0].expires_at;
        let too_much = told.expires_at.millis_after(true_deadline);
        assert!(too_much <= 5, "{user} was promised {too_much} ms too much");
    }
}

/// A change before the opening of a stream is in its snapshot or before its cursor, also if this instance has not
/// received it from the bus. The change does not come again.
#[tokio::test]
async fn a_stream_begins_at_the_state_of_the_store_also_when_the_bus_is_late() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let proxy = Proxy::to(deployment.redis().port()).await;
    let settings = Settings::new().with("REDIS_URL", &proxy.url());
    let far = Instance::start(&settings).await;
    let near = deployment.client();
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

#[tokio::test]
async fn an_unreachable_redis_takes_no_pinging_user_offline() {
    let mut scene = Scene::open().await;
    scene.proxy.refuse();
    scene.outlast().await;
    scene.proxy.pass();
    scene.recover().await;
    scene.assert_nothing_lost();
}

#[tokio::test]
async fn a_network_that_drops_all_packets_takes_no_pinging_user_offline() {
    let mut scene = Scene::open().await;
    scene.proxy.freeze();
    scene.outlast().await;
    scene.proxy.pass();
    scene.recover().await;
    scene.assert_nothing_lost();
}

/// Redis runs the commands that were sent meanwhile, unless the connections are closed.
#[tokio::test]
async fn a_network_that_drops_all_packets_and_then_closes_takes_no_pinging_user_offline() {
    let mut scene = Scene::open().await;
    scene.proxy.freeze();
    scene.outlast().await;
    scene.proxy.cut_all();
    scene.proxy.pass();
    scene.recover().await;
    scene.assert_nothing_lost();
}

#[tokio::test]
async fn a_slow_redis_takes_no_pinging_user_offline() {
    let mut scene = Scene::open().await;
    scene.proxy.slow(Duration::from_millis(1_000));
    scene.outlast().await;
    scene.proxy.pass();
    scene.recover().await;
    scene.assert_nothing_lost();
}

/// Half a second in each direction is longer than the limit of a command, and two such commands are longer than that of
/// a call.
#[tokio::test]
async fn calls_to_a_slow_redis_end_within_the_limit() {
    for delay_ms in [50, 200, 500] {
        let mut scene = Scene::open().await;
        scene.proxy.slow(Duration::from_millis(delay_ms));
        for _ in 0..3 {
            scene.call_everything().await;
        }
        scene.proxy.pass();
        scene.recover().await;
        scene.assert_nothing_lost();
    }
}

#[tokio::test]
async fn connections_that_are_cut_repeatedly_lose_and_repeat_nothing() {
    let mut scene = Scene::open().await;
    for _ in 0..5 {
        scene.proxy.cut_all();
        scene.call_everything().await;
    }
    scene.recover().await;
    scene.assert_nothing_lost();
}

#[tokio::test]
async fn truncated_replies_lose_and_repeat_nothing() {
    let mut scene = Scene::open().await;
    for bytes in [0, 1, 2, 5, 13, 40, 100] {
        scene.proxy.cut_reply_after(bytes);
        scene.call_everything().await;
        eventually_true("a reply is cut", async || scene.proxy.has_cut()).await;
    }
    scene.recover().await;
    scene.assert_nothing_lost();
}
