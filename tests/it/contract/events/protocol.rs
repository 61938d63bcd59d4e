//! Messages about the stream itself: the reconnection time, `presence.ready` and `presence.end`.

use std::time::Duration;

use harness::client::crowd;
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::{Instance, Settings};
use harness::process::Signal;
use harness::sse::{End, Event, Stream};
use reqwest::Method;
use serde_json::json;

/// The longest line that every client can read.
const LINE_BYTES: usize = 60 * 1_024;

const UNKNOWN: &str = "not-a-cursor-of-yours";

/// The names of the next events of any kind.
async fn names(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(stream.next_of_all().await.name);
    }
    names
}

fn assert_ready(event: &Event, count: Option<usize>) {
    assert_eq!(event.name, "presence.ready");
    let expected = count.map_or(json!({}), |count| json!({"count": count}));
    assert_eq!(event.json(), expected);
    assert!(!event.id.is_empty(), "{event:?}");
}

async fn a_stream_that_missed_nothing_is_ready_at_once(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    for query in ["", "?userIds=bob"] {
        let mut stream = Stream::open(&client, query).await;
        assert_ready(&stream.next_of_all().await, None);
        let mut resumed = Stream::resume(&client, query, &stream.last_id()).await;
        assert_ready(&resumed.next_of_all().await, None);
    }
}

async fn a_stream_is_ready_after_the_missed_events(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = Stream::open(&client, "").await.last_id();
    client.connect("alice").await;
    client.connect("bob").await;
    let mut stream = Stream::resume(&client, "", &cursor).await;
    let told = names(&mut stream, 3).await;
    assert_eq!(told, ["user.online", "user.online", "presence.ready"]);
    let cursor = stream.last_id();
    client.disconnect("bob").await;
    let mut resumed = Stream::resume(&client, "?userIds=alice", &cursor).await;
    assert_ready(&resumed.next_of_all().await, None);
    assert_ne!(
        resumed.last_id(),
        cursor,
        "the cursor is after the event of bob"
    );
}

async fn a_stream_is_ready_after_its_snapshot_and_not_again(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    for query in ["?snapshot=true", "?snapshot=true&userIds=alice,marker-1"] {
        let mut stream = Stream::open(&client, query).await;
        assert_eq!(stream.next_of_all().await.name, "presence.snapshot");
        assert_ready(&stream.next_of_all().await, Some(1));
        client.connect("marker-1").await;
        assert_eq!(stream.next_of_all().await.user(), "marker-1");
        client.disconnect("marker-1").await;
    }
}

async fn a_stream_is_ready_after_a_reset(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::resume(&client, "", UNKNOWN).await;
    let told = names(&mut stream, 2).await;
    assert_eq!(told, ["presence.reset", "presence.ready"]);
    let mut stream = Stream::resume(&client, "?snapshot=true", UNKNOWN).await;
    let told = names(&mut stream, 3).await;
    let expected = ["presence.reset", "presence.snapshot", "presence.ready"];
    assert_eq!(told, expected);
}

/// Clients reconnect spread over some seconds, by the reconnection time in the first block with data.
async fn the_reconnection_times_of_streams_differ(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut times = Vec::new();
    for query in ["", "?snapshot=true"].repeat(10) {
        let stream = Stream::open(&client, query).await;
        let raw = stream.raw();
        let first = raw.lines().find(|line| !line.starts_with(':'));
        let first = first.unwrap_or_default();
        assert!(first.starts_with("retry: "), "{raw}");
        assert_eq!(raw.matches("retry: ").count(), 1, "{raw}");
        times.extend(stream.retry_ms());
    }
    assert!(times.iter().all(|time| (1_000..=10_000).contains(time)));
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 5, "{times:?}");
}

async fn no_line_is_too_long(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut users = crowd(&"x".repeat(119), 700);
    users.extend(crowd(&"\"\\".repeat(59), 700));
    client.connect_each(&users).await;
    let mut of_everyone = Stream::open(&client, "?snapshot=true").await;
    let body = json!({"userIds": users, "snapshot": true});
    let request = client.request(Method::POST, "/v1/events").json(&body);
    let mut of_chosen = Stream::send(request).await;
    for stream in [&mut of_everyone, &mut of_chosen] {
        assert_eq!(stream.snapshot().await.len(), users.len());
        let longest = stream.raw().lines().map(str::len).max();
        assert!(longest <= Some(LINE_BYTES), "{longest:?}");
    }
}

async fn a_stream_of_maximum_age_ends_with_the_reason_of_its_end(store: Store) {
    let settings = Settings::new().with("PRESENCE_STREAM_MAX_AGE", "1s");
    let deployment = Deployment::with(store, settings).await;
    let mut stream = Stream::open(&deployment.client(), "").await;
    let end = stream.end(Duration::from_secs(10)).await;
    assert_eq!(end, Some(End::Clean));
    assert_eq!(stream.end_reason().as_deref(), Some("max-age"));
    let last = stream.next_of_all().await;
    assert_ready(&last, None);
    assert_eq!(stream.last_id(), last.id, "the end has no cursor");
}

#[tokio::test]
async fn a_drained_stream_ends_with_the_reason_of_its_end() {
    let settings = Settings::new().with("PRESENCE_DRAIN", "2s");
    let instance = Instance::start(&settings).await;
    let stream = Stream::open(&instance.client(), "").await;
    instance.send(Signal::Terminate);
    let end = stream.end(Duration::from_secs(10)).await;
    assert_eq!(end, Some(End::Clean));
    assert_eq!(stream.end_reason().as_deref(), Some("draining"));
}

over_each_protocol!(
    a_stream_that_missed_nothing_is_ready_at_once,
    a_stream_is_ready_after_the_missed_events,
    a_stream_is_ready_after_its_snapshot_and_not_again,
    a_stream_is_ready_after_a_reset,
    the_reconnection_times_of_streams_differ,
    no_line_is_too_long,
    a_stream_of_maximum_age_ends_with_the_reason_of_its_end,
);
