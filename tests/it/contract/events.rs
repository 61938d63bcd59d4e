//! The event stream, as `docs/events.md` describes it.

mod filter;
mod half_closed;
mod lists;
mod opening;
mod protocol;
mod snapshot;

use harness::client::crowd;
use harness::deployment::{Deployment, Store, over_each_protocol};
use harness::instance::Settings;
use harness::serial::run_alone;
use harness::sse::{Event, Stream, alternating, briefs};
use harness::timestamp::Timestamp;
use serde_json::{Value, json};

/// The data of a change without its times, which must exist and have their form.
fn timeless(event: &Event, times: &[&str]) -> Value {
    let mut data = event.json();
    for time in times {
        let text = data[time].as_str().unwrap_or("").to_owned();
        assert!(Timestamp::parse(&text).is_some(), "{time} of {event:?}");
        data[time] = Value::Null;
    }
    data
}

async fn a_change_has_the_documented_fields(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    client.disconnect("alice").await;
    let changes = stream.changes(2).await;
    assert_eq!(changes[0].name, "user.online");
    let online = timeless(&changes[0], &["timestamp"]);
    assert_eq!(online, json!({"userId": "alice", "timestamp": null}));
    assert_eq!(changes[1].name, "user.offline");
    let offline = timeless(&changes[1], &["timestamp", "lastSeenAt"]);
    let expected = json!({
        "userId": "alice", "timestamp": null, "reason": "disconnected", "lastSeenAt": null,
    });
    assert_eq!(offline, expected);
}

async fn an_expiry_has_its_reason_and_the_time_of_the_last_ping(store: Store) {
    run_alone();
    let deployment = Deployment::with(store, Settings::mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let before = Timestamp::now();
    let connected = client.connect("alice").await;
    let after = Timestamp::now();
    let changes = stream.changes(2).await;
    let offline = &changes[1];
    let data = timeless(offline, &["timestamp", "lastSeenAt"]);
    let expected = json!({
        "userId": "alice", "timestamp": null, "reason": "expired", "lastSeenAt": null,
    });
    assert_eq!(data, expected);
    let seen = offline.last_seen_at();
    assert!(
        seen.millis_after(before) >= -2 && after.millis_after(seen) >= -2,
        "{seen}"
    );
    let late = offline.timestamp().millis_after(connected.expires_at);
    assert!((0..1_000).contains(&late), "{late} ms after the deadline");
}

async fn a_change_is_stamped_when_it_happens(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    for call in ["connect", "disconnect"] {
        let before = Timestamp::now();
        harness::client::send(client.of_user("alice", call)).await;
        let after = Timestamp::now();
        let stamp = stream.changes(1).await[0].timestamp();
        assert!(stamp.millis_after(before) >= -2, "{call}");
        assert!(after.millis_after(stamp) >= -2, "{call}");
    }
}

async fn only_transitions_are_events(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    client.connect("alice").await;
    client.ping("alice").await;
    client.connect_as("alice", "phone").await;
    client.disconnect_as("alice", "nothing").await;
    client.disconnect_as("alice", "1").await;
    client.ping_as("alice", "phone").await;
    client.disconnect_all("alice").await;
    client.disconnect_all("alice").await;
    client.connect("alice").await;
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(
        briefs(&events),
        ["online alice", "offline alice", "online alice"]
    );
}

async fn events_of_a_user_alternate(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let mut expected = Vec::new();
    for _ in 0..20 {
        client.connect("alice").await;
        client.disconnect("alice").await;
        expected.extend(["online", "disconnected"]);
    }
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(alternating(&events)["alice"], expected);
}

async fn every_stream_gets_every_event_in_one_order(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(Stream::open(&client, "").await);
    }
    client.connect_each(&crowd("user", 200)).await;
    let mut orders = Vec::new();
    for stream in &mut streams {
        orders.push(briefs(&stream.changes(200).await));
    }
    assert!(orders.iter().all(|order| *order == orders[0]));
    let mut users = orders.remove(0);
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), 200);
}

async fn every_event_has_an_id_of_its_own(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let mut ids = vec![stream.last_id()];
    for user in crowd("user", 20) {
        client.connect(&user).await;
    }
    ids.extend(stream.changes(20).await.into_iter().map(|event| event.id));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert!(ids.iter().all(|id| !id.is_empty()));
}

/// User ids come from outside. No id may break out of the JSON string or the message.
async fn ids_with_special_characters_survive_the_stream(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    for user in [
        "\"}",
        "a\\n",
        "ünï/€",
        "data: x",
        ":",
        "</script>",
        "\u{2028}",
        "🦀",
    ] {
        client.connect(user).await;
        let event = stream.changes(1).await.remove(0);
        assert_eq!(event.user(), user);
    }
}

#[tokio::test]
async fn streams_of_every_instance_get_every_event_in_one_order() {
    let deployment = Deployment::of(3, Settings::new()).await;
    let mut streams = Vec::new();
    for client in deployment.clients() {
        streams.push(Stream::open(&client, "").await);
    }
    for (round, client) in deployment.clients().iter().cycle().take(30).enumerate() {
        client.connect(&format!("user-{round}")).await;
    }
    let expected: Vec<String> = (0..30)
        .map(|round| format!("online user-{round}"))
        .collect();
    for stream in &mut streams {
        assert_eq!(briefs(&stream.changes(30).await), expected);
    }
}

over_each_protocol!(
    a_change_has_the_documented_fields,
    an_expiry_has_its_reason_and_the_time_of_the_last_ping,
    a_change_is_stamped_when_it_happens,
    only_transitions_are_events,
    events_of_a_user_alternate,
    every_stream_gets_every_event_in_one_order,
    every_event_has_an_id_of_its_own,
    ids_with_special_characters_survive_the_stream,
);
