//! Instances whose process stands still for a while, as on Cloud Run, where it runs only during requests.

use std::time::Duration;

use harness::client::Client;
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::Settings;
use harness::process::Signal;
use harness::serial::run_quietly;
use harness::sse::{Stream, briefs};
use harness::timestamp::Timestamp;

/// How long the process runs for each request: until the answer is sent and the sweep that follows has ended.
const AWAKE: Duration = Duration::from_millis(150);

/// The hold of a departure: a ping interval and its margin.
const HOLD: Duration = Duration::from_millis(2_500 + 500);

fn settings() -> Settings {
    Settings::new()
        .with("PRESENCE_TTL", "6s")
        .with("PRESENCE_PING_INTERVAL", "2500ms")
}

/// Settings with a short TTL, of which a user may miss one ping.
fn mortal() -> Settings {
    Settings::mortal().with("PRESENCE_PING_INTERVAL", "1s")
}

/// Much shorter than a hold, and longer than a sweep takes on a busy machine.
const SOON_MS: i64 = 1_000;

/// Pings `user` once in each `pause`, between which the process stands still. Returns the time of the first ping after
/// `end`.
async fn ping_awake(
    deployment: &Deployment,
    client: &Client,
    user: &str,
    pause: Duration,
    end: Timestamp,
) -> Timestamp {
    let instance = &deployment.instances[0];
    loop {
        instance.send(Signal::Stop);
        Timestamp::now().plus(pause).pass().await;
        instance.send(Signal::Continue);
        let request = Timestamp::now();
        client.ping(user).await;
        Timestamp::now().plus(AWAKE).pass().await;
        if request > end {
            return request;
        }
    }
}

async fn the_silent_leave_with_the_first_request_after_one_hold(store: Store, pause: Duration) {
    run_quietly();
    let deployment = Deployment::with(store, settings()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let silent = client.connect("silent").await;
    client.connect("alive").await;
    let end = silent.expires_at.plus(HOLD);
    let request = ping_awake(&deployment, &client, "alive", pause, end).await;
    let events = stream.changes(3).await;
    assert_eq!(events[2].brief(), "offline silent");
    let late = events[2].timestamp().millis_after(request);
    assert!(late < SOON_MS, "{late} ms");
    assert_eq!(stream.unread(), []);
}

async fn silent_users_leave_after_one_hold_with_frequent_requests(store: Store) {
    let pause = Duration::from_millis(2_400);
    the_silent_leave_with_the_first_request_after_one_hold(store, pause).await;
}

async fn silent_users_leave_after_one_hold_with_rare_requests(store: Store) {
    let pause = Duration::from_millis(5_500);
    the_silent_leave_with_the_first_request_after_one_hold(store, pause).await;
}

/// This also holds before the first sweep.
async fn a_disconnect_of_one_of_two_connections_keeps_the_user_online(store: Store) {
    run_quietly();
    let deployment = Deployment::with(store, settings()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect_as("alice", "phone").await;
    let laptop = client.connect_as("alice", "laptop").await;
    deployment.instances[0].send(Signal::Stop);
    laptop.expires_at.plus(Duration::from_secs(1)).pass().await;
    deployment.instances[0].send(Signal::Continue);
    let left = client.disconnect_as("alice", "laptop").await;
    assert!(!left.online && !left.became_offline, "{left:?}");
    assert_eq!(client.count().await, 0);
    assert!(!client.ping_as("alice", "phone").await.became_online);
    assert_eq!(client.count().await, 1);
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(events.len(), 1, "{events:?}");
}

async fn an_only_instance_that_was_frozen_announces_no_pinging_user_offline(store: Store) {
    let deployment = Deployment::with(store, mortal()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    deployment.instances[0].send(Signal::Stop);
    Timestamp::now().plus(Duration::from_secs(4)).pass().await;
    deployment.instances[0].send(Signal::Continue);
    // Clients that are alive ping within an interval, not at once.
    Timestamp::now()
        .plus(Duration::from_millis(500))
        .pass()
        .await;
    let back = client.ping("alice").await;
    assert!(!back.became_online);
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), ["online alice"]);
}

on_both_stores!(
    an_only_instance_that_was_frozen_announces_no_pinging_user_offline,
    silent_users_leave_after_one_hold_with_frequent_requests,
    silent_users_leave_after_one_hold_with_rare_requests,
    a_disconnect_of_one_of_two_connections_keeps_the_user_online,
);

#[tokio::test]
async fn a_frozen_instance_delays_no_departure() {
    run_quietly();
    let deployment = Deployment::of(2, Settings::mortal()).await;
    let clients = deployment.clients();
    let mut stream = Stream::open(&clients[1], "").await;
    deployment.instances[0].send(Signal::Stop);
    let alive = clients[1].connect("alice").await;
    let events = stream.changes(2).await;
    deployment.instances[0].send(Signal::Continue);
    assert_eq!(events[1].reason(), "expired");
    assert!(events[1].timestamp().millis_after(alive.expires_at) <= 500);
}
