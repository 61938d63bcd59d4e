//! Streams that resume from a cursor.

mod cold;
mod reset;

use harness::client::{Client, crowd, query_of};
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::sse::{Event, Stream, assert_same_changes, briefs};
use serde_json::json;

/// A cursor that no instance ever sent.
const UNKNOWN: &str = "not-a-cursor-of-yours";

/// Causes events while no stream is open, and returns them.
async fn missed_events(client: &Client) -> Vec<String> {
    client.connect("bob").await;
    client.disconnect("alice").await;
    client.connect("alice").await;
    client.disconnect("bob").await;
    ["online bob", "offline alice", "online alice", "offline bob"]
        .map(str::to_owned)
        .to_vec()
}

/// The cursor of a closed stream, after the connect of alice.
async fn cursor_after_alice_came(client: &Client) -> String {
    let mut stream = Stream::open(client, "").await;
    client.connect("alice").await;
    stream.changes(1).await;
    stream.last_id()
}

fn is_about_change(event: &Event) -> bool {
    event.is_change() || event.name == "presence.reset"
}

async fn missed_events_come_once_and_in_order(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = cursor_after_alice_came(&client).await;
    let missed = missed_events(&client).await;
    let mut stream = Stream::resume(&client, "", &cursor).await;
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), missed);
}

async fn the_cursor_may_come_in_the_query(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = cursor_after_alice_came(&client).await;
    let missed = missed_events(&client).await;
    let mut stream = Stream::open(&client, &query_of(&[("lastEventId", &cursor)])).await;
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), missed);
}

async fn the_header_wins_over_the_query(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = cursor_after_alice_came(&client).await;
    let missed = missed_events(&client).await;
    let query = query_of(&[("lastEventId", UNKNOWN)]);
    let mut stream = Stream::resume(&client, &query, &cursor).await;
    let events = stream.events_before_now(&client, "marker-1").await;
    assert_eq!(briefs(&events), missed);

    let query = query_of(&[("lastEventId", &cursor)]);
    let mut stream = Stream::resume(&client, &query, UNKNOWN).await;
    let events = stream.events_before_now(&client, "marker-2").await;
    assert_eq!(briefs(&events), ["presence.reset"]);
}

async fn a_post_resumes_too(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = cursor_after_alice_came(&client).await;
    missed_events(&client).await;
    let body = json!({"userIds": ["alice", "marker"]});
    let request = client
        .request(reqwest::Method::POST, "/v1/events")
        .json(&body);
    let mut stream = Stream::send(request.header("Last-Event-ID", &cursor)).await;
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), ["offline alice", "online alice"]);
}

async fn a_resume_without_missed_events_repeats_nothing(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = cursor_after_alice_came(&client).await;
    let mut stream = Stream::resume(&client, "", &cursor).await;
    let events = stream.events_before_now(&client, "marker").await;
    assert!(events.is_empty(), "{events:?}");
}

/// The first block has a cursor, before any event.
async fn the_very_first_cursor_resumes(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = Stream::open(&client, "").await.last_id();
    client.connect("alice").await;
    let mut stream = Stream::resume(&client, "", &cursor).await;
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), ["online alice"]);
}

async fn every_cursor_resumes_after_its_own_event(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect_each(&crowd("user", 40)).await;
    let mut events = Vec::new();
    for _ in 0..40 {
        events.push(stream.next().await);
    }
    for (place, event) in events.iter().enumerate() {
        let mut resumed = Stream::resume(&client, "", &event.id).await;
        let left = resumed.changes(39 - place).await;
        assert_same_changes(&left, &events[place + 1..]);
    }
}

async fn a_resumed_stream_keeps_to_its_filter(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let cursor = cursor_after_alice_came(&client).await;
    missed_events(&client).await;
    let mut stream = Stream::resume(&client, "?userIds=bob,marker", &cursor).await;
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), ["online bob", "offline bob"]);
}

/// A stream with few events has a current cursor too.
async fn a_filtered_stream_resumes(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "?userIds=alice").await;
    client.connect("alice").await;
    stream.changes(1).await;
    client.connect_each(&crowd("other", 50)).await;
    let cursor = stream.last_id();
    drop(stream);
    client.disconnect("alice").await;
    let mut stream = Stream::resume(&client, "?userIds=alice,marker", &cursor).await;
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), ["offline alice"]);
}

/// A browser reconnects to the same URL, with `snapshot=true` and its last event id.
async fn a_stream_with_a_snapshot_resumes_without_a_gap(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    client.connect("alice").await;
    let mut stream = Stream::open(&client, "?snapshot=true").await;
    assert_eq!(stream.snapshot().await, ["alice"]);
    let cursor = stream.last_id();
    drop(stream);
    let missed = missed_events(&client).await;
    let mut stream = Stream::resume(&client, "?snapshot=true", &cursor).await;
    let mut events = stream.events_before_now(&client, "marker").await;
    events.retain(is_about_change);
    assert_eq!(briefs(&events), missed);
}

/// A stream that is cut after each event, on any instance, gets each event once.
#[tokio::test]
async fn any_instance_resumes_a_stream_of_another() {
    let deployment = Deployment::of(3, Settings::new()).await;
    let clients = deployment.clients();
    let mut cursor = Stream::open(&clients[0], "").await.last_id();
    let mut heard = Vec::new();
    for round in 0..30 {
        clients[round % 2]
            .connect(&format!("user-{round:02}"))
            .await;
        clients[2].disconnect(&format!("user-{round:02}")).await;
        let mut stream = Stream::resume(&clients[(round + 1) % 3], "", &cursor).await;
        heard.extend(stream.changes(1).await);
        cursor.clone_from(&heard[heard.len() - 1].id);
    }
    let mut stream = Stream::resume(&clients[1], "", &cursor).await;
    heard.extend(stream.changes(30).await);
    let expected = (0..30)
        .flat_map(|round| ["online", "offline"].map(|change| format!("{change} user-{round:02}")));
    assert_eq!(briefs(&heard), expected.collect::<Vec<_>>());
}

/// Redis keeps all events across a restart of every instance.
#[tokio::test]
async fn a_cursor_outlives_the_instance_that_gave_it() {
    let mut deployment = Deployment::of(1, Settings::new()).await;
    let cursor = cursor_after_alice_came(&deployment.client()).await;
    let missed = missed_events(&deployment.client()).await;
    deployment.instances.remove(0).kill();
    deployment.add_instance().await;
    let client = deployment.client();
    let mut stream = Stream::resume(&client, "", &cursor).await;
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), missed);
}

over_each_protocol!(
    missed_events_come_once_and_in_order,
    the_cursor_may_come_in_the_query,
    the_header_wins_over_the_query,
    a_post_resumes_too,
    a_resume_without_missed_events_repeats_nothing,
    the_very_first_cursor_resumes,
    every_cursor_resumes_after_its_own_event,
    a_resumed_stream_keeps_to_its_filter,
    a_filtered_stream_resumes,
    a_stream_with_a_snapshot_resumes_without_a_gap,
);
