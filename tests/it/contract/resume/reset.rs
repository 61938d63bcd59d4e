//! `presence.reset`: a stream that cannot continue without a gap says so.

use std::time::Duration;

use harness::client::{Client, crowd};
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::sse::{Event, Stream, briefs};
use harness::timestamp::Timestamp;

/// Foreign cursors of many forms.
const UNKNOWN: [&str; 7] = [
    "not-a-cursor-of-yours",
    "0",
    "-1",
    "1700000000000-0",
    "99999999999999999999999-99999999999999999999",
    "e30=",
    "aaaaaaaa:1700000000000-0",
];

fn assert_says_why(reset: &Event) {
    assert_eq!(reset.name, "presence.reset");
    let data = reset.json();
    let fields = data.as_object().expect("an object");
    let named = fields
        .values()
        .any(|value| value.as_str().is_some_and(|why| !why.is_empty()));
    assert!(named, "data names why: {reset:?}");
    assert!(!reset.id.is_empty(), "a reset is a place to resume from");
}

async fn an_unknown_cursor_is_answered_with_a_reset(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    for (round, cursor) in UNKNOWN.iter().enumerate() {
        let mut stream = Stream::resume(&client, "", cursor).await;
        assert_says_why(&stream.next().await);
        let events = stream
            .events_before_now(&client, &format!("marker-{round}"))
            .await;
        assert!(events.is_empty(), "after the reset it is live: {events:?}");
    }
}

async fn a_reset_is_followed_by_the_requested_snapshot(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    let mut stream = Stream::resume(&client, "?snapshot=true", UNKNOWN[0]).await;
    assert_says_why(&stream.next().await);
    assert_eq!(stream.snapshot().await, ["alice"]);
    client.connect("bob").await;
    assert_eq!(briefs(&stream.changes(1).await), ["online bob"]);
}

async fn a_stream_resumes_from_its_reset(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::resume(&client, "", UNKNOWN[0]).await;
    assert_says_why(&stream.next().await);
    let cursor = stream.last_id();
    drop(stream);
    client.connect("alice").await;
    let mut stream = Stream::resume(&client, "", &cursor).await;
    assert_eq!(stream.next().await.brief(), "online alice");
}

/// More events than one node of a Redis stream holds, because Redis trims whole nodes.
async fn come_and_go(client: &Client, prefix: &str) {
    let users = crowd(prefix, 250);
    client.connect_each(&users).await;
    for user in &users {
        client.disconnect(user).await;
    }
}

async fn a_cursor_older_than_the_history_is_answered_with_a_reset(store: Store) {
    let settings = Settings::new().with("PRESENCE_HISTORY", "1s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let cursor = Stream::open(&client, "").await.last_id();
    come_and_go(&client, "first").await;
    Timestamp::now()
        .plus(Duration::from_millis(2_500))
        .pass()
        .await;
    come_and_go(&client, "second").await;
    let mut stream = Stream::resume(&client, "?snapshot=true", &cursor).await;
    assert_says_why(&stream.next().await);
    assert!(stream.snapshot().await.is_empty());
    let events = stream.events_before_now(&client, "marker").await;
    assert!(events.is_empty(), "{events:?}");
}

/// A cursor that is older than the history stays valid if nothing happened since.
async fn a_cursor_stays_good_while_nothing_happens(store: Store) {
    let settings = Settings::new().with("PRESENCE_HISTORY", "1s");
    let deployment = Deployment::with(store, settings).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    stream.changes(1).await;
    let cursor = stream.last_id();
    Timestamp::now()
        .plus(Duration::from_millis(2_500))
        .pass()
        .await;
    client.connect("bob").await;
    let mut resumed = Stream::resume(&client, "", &cursor).await;
    let first = resumed.next().await;
    let honest = first.brief() == "online bob" || first.name == "presence.reset";
    assert!(honest, "{first:?}");
    let live = stream.next().await;
    assert_eq!(
        live.brief(),
        "online bob",
        "an open stream is not disturbed"
    );
}

/// The embedded store loses everything when its process ends.
#[tokio::test]
async fn a_cursor_of_an_earlier_embedded_store_is_answered_with_a_reset() {
    let mut deployment = Deployment::start(Store::Embedded).await;
    let mut stream = Stream::open(&deployment.client(), "").await;
    deployment.client().connect("alice").await;
    stream.changes(1).await;
    let cursor = stream.last_id();
    deployment.instances.remove(0).kill();
    deployment.add_instance().await;
    let client = deployment.client();
    client.connect("bob").await;
    let mut stream = Stream::resume(&client, "?snapshot=true", &cursor).await;
    assert_says_why(&stream.next().await);
    assert_eq!(stream.snapshot().await, ["bob"]);
}

#[tokio::test]
async fn a_cursor_of_another_redis_is_answered_with_a_reset() {
    let elsewhere = Deployment::of(1, Settings::new()).await;
    let mut stream = Stream::open(&elsewhere.client(), "").await;
    elsewhere.client().connect("alice").await;
    stream.changes(1).await;
    let here = Deployment::of(1, Settings::new()).await;
    here.client().connect("bob").await;
    let mut stream = Stream::resume(&here.client(), "", &stream.last_id()).await;
    assert_says_why(&stream.next().await);
}

/// Streams of all kinds, on all instances.
#[tokio::test]
async fn lost_data_resets_every_stream() {
    let deployment = Deployment::on_one_server(3, Settings::new()).await;
    deployment.client().connect("alice").await;
    let mut streams = Vec::new();
    for client in deployment.clients() {
        for query in ["", "?userIds=alice,bob", "?snapshot=true"] {
            let mut stream = Stream::open(&client, query).await;
            let asked = query.contains("snapshot");
            if asked {
                assert_eq!(stream.snapshot().await, ["alice"]);
            }
            streams.push((stream, asked));
        }
    }
    deployment.redis().flush_all().await;
    for (stream, asked) in &mut streams {
        assert_says_why(&stream.next().await);
        if *asked {
            assert!(stream.snapshot().await.is_empty(), "the data is gone");
        }
    }
    assert!(deployment.clients()[1].connect("bob").await.became_online);
    for (stream, _) in &mut streams {
        assert_eq!(stream.next().await.brief(), "online bob");
    }
}

#[tokio::test]
async fn a_cursor_from_before_a_loss_of_data_is_answered_with_a_reset() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    stream.changes(1).await;
    let cursor = stream.last_id();
    deployment.redis().flush_all().await;
    assert_says_why(&stream.next().await);
    client.connect("bob").await;
    let mut stream = Stream::resume(&client, "", &cursor).await;
    assert_says_why(&stream.next().await);
}

over_each_protocol!(
    an_unknown_cursor_is_answered_with_a_reset,
    a_reset_is_followed_by_the_requested_snapshot,
    a_stream_resumes_from_its_reset,
    a_cursor_older_than_the_history_is_answered_with_a_reset,
    a_cursor_stays_good_while_nothing_happens,
);
