//! Redis is frozen again and again.

use std::time::Duration;

use harness::client::{crowd, try_send};
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::names::partitions_of_tests;
use harness::process::Signal;
use harness::redis_server::RedisServer;
use harness::serial::{run_alone, run_quietly};
use harness::sse::{Stream, briefs};
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::failures::held;
use crate::failures::scene::all_ready;

/// Longer than a gap between sweeps that is not an outage, such as a fork or a slow command causes.
const STALL: Duration = Duration::from_millis(1_700);

fn settings(ttl: &str, ping_interval: &str) -> Settings {
    Settings::new()
        .with("PRESENCE_TTL", ttl)
        .with("PRESENCE_PING_INTERVAL", ping_interval)
}

/// Freezes the server for [`STALL`] and lets it run for `pause`, in turn.
async fn stall(redis: &RedisServer, pause: Duration) -> ! {
    loop {
        redis.freeze();
        sleep(STALL).await;
        redis.thaw();
        sleep(pause).await;
    }
}

/// Pings for `user` all the time, and repeats failed pings.
fn keep_pinging(deployment: &Deployment, user: &'static str) -> JoinHandle<()> {
    let client = deployment.client();
    tokio::spawn(async move {
        loop {
            // A refused call is repeated.
            let _ = try_send(client.of_user(user, "ping")).await;
            sleep(Duration::from_millis(200)).await;
        }
    })
}

/// Checks that exactly `silent` and `phoney` leave, between their deadline and `at_most` later.
async fn the_silent_leave(settings: Settings, pause: Duration, at_most: Duration) {
    let deployment = Deployment::on_one_server(2, settings).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let alive = keep_pinging(&deployment, "alive");
    stream.changes(1).await;
    let silent = client.connect("silent").await;
    let phoney = client.connect_as("phoney", "phone").await;
    stream.changes(2).await;
    let gone = tokio::select! {
        gone = stream.changes(2) => gone,
        never = stall(deployment.redis(), pause) => never,
    };
    let mut told = briefs(&gone);
    told.sort_unstable();
    assert_eq!(told, ["offline phoney", "offline silent"]);
    let deadline = silent.expires_at.max(phoney.expires_at);
    for event in &gone {
        let late = event.timestamp().millis_after(deadline);
        let at_most = i64::try_from(at_most.as_millis()).expect("a duration of a test");
        assert!(
            (-100..at_most).contains(&late),
            "{}: {late} ms",
            event.brief()
        );
    }
    deployment.redis().thaw();
    alive.abort();
}

/// A client that pings at the interval has a ping between all stalls, also if one counts as longer by the time between
/// two beats.
#[tokio::test]
async fn stalls_that_ttl_and_interval_absorb_hold_no_departure() {
    run_quietly();
    // A departure waits for the end of a stall and for the next sweep.
    let at_most = STALL + Duration::from_millis(1_300);
    the_silent_leave(
        settings("7s", "1500ms"),
        Duration::from_millis(800),
        at_most,
    )
    .await;
}

#[tokio::test]
async fn a_departure_is_held_once_also_when_more_stalls_follow() {
    run_quietly();
    // The time is that of the outage before the deadline, twice the interval and its margin, and another stall.
    let hold = Duration::from_millis(1_500);
    let at_most = STALL + 2 * hold + STALL + Duration::from_millis(1_300);
    the_silent_leave(settings("3s", "1s"), Duration::from_millis(700), at_most).await;
}

/// A client that waits for the interval after each answer misses some of the gaps.
#[tokio::test]
async fn a_short_stall_holds_departures_when_ttl_and_interval_are_close() {
    run_quietly();
    let deployment = Deployment::on_one_server(1, settings("2s", "830ms")).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let users = [("alice", "1"), ("bob", "phone")];
    let mut last = Timestamp::now();
    for (user, connection) in users {
        last = client.connect_as(user, connection).await.expires_at;
    }
    last.less(Duration::from_millis(1_000)).pass().await;
    deployment.redis().freeze();
    last.plus(Duration::from_millis(100)).pass().await;
    deployment.redis().thaw();
    last.plus(Duration::from_millis(700)).pass().await;
    for (user, connection) in users {
        let back = client.ping_as(user, connection).await;
        assert!(!back.became_online, "{user} left");
    }
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), ["online alice", "online bob"]);
}

/// The key holds the unnamed connection, and not the others.
#[tokio::test]
async fn a_disconnect_after_a_stall_leaves_the_other_connection_open() {
    run_quietly();
    let deployment = Deployment::on_one_server(1, settings("2s", "1s")).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    let mut stream = Stream::open(&client, "").await;
    let users = ["alice", "bob"];
    let connections = [["1", "laptop"], ["phone", "1"]];
    let mut last = Timestamp::now();
    for (user, connections) in users.iter().zip(connections) {
        for connection in connections {
            last = client.connect_as(user, connection).await.expires_at;
        }
    }
    redis.freeze();
    last.plus(Duration::from_millis(500)).pass().await;
    redis.thaw();
    all_ready(std::slice::from_ref(&client)).await;
    for (user, [stays, leaves]) in users.iter().zip(connections) {
        let left = client.disconnect_as(user, leaves).await;
        assert!(!left.online && !left.became_offline, "{left:?}");
        assert!(!client.user(user).await.online);
        let back = client.ping_as(user, stays).await;
        assert!(!back.became_online, "{user} left");
    }
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), ["online alice", "online bob"]);
    assert!(client.disconnect_all("alice").await.became_offline);
}

/// Held departures are not online, do not delay other departures, and are cheap to count.
#[tokio::test]
async fn thousands_of_held_departures_do_not_delay_other_departures() {
    run_alone();
    const USERS: usize = 2_500;
    let deployment = Deployment::on_one_server(1, settings("3s", "2s")).await;
    let (client, redis) = (deployment.client(), deployment.redis());
    let users = crowd("user", USERS);
    let last = client.connect_each(&users).await;
    let last = last.iter().map(|each| each.expires_at).max();
    let last = last.expect("some users");
    deployment.instances[0].send(Signal::Stop);
    last.plus(Duration::from_millis(1_600)).pass().await;
    deployment.instances[0].send(Signal::Continue);
    let mut stream = Stream::open(&client, "").await;
    assert_eq!(client.count().await, 0);
    eventually_true("all departures are held", async || {
        held(redis).await == USERS as u64
    })
    .await;
    let looks = redis.calls_of("mget").await;
    assert_eq!(client.count().await, 0);
    assert!(client.everyone().await.is_empty());
    assert!(redis.calls_of("mget").await - looks < 10 * partitions_of_tests() as u64);
    // A disconnect is not held, and is announced before the held departures.
    let bob = client.connect("bob").await;
    assert_eq!(client.count().await, 1);
    client.disconnect("bob").await;
    assert!(!bob.user_id.is_empty());
    assert_eq!(
        briefs(&stream.changes(2).await),
        ["online bob", "offline bob"]
    );
    // A user that pings has never left.
    assert!(!client.ping(&users[7]).await.became_online);
    let mut left: Vec<_> = stream.changes(USERS - 1).await;
    left.sort_by_key(|event| event.user());
    assert!(left.iter().all(|event| event.user() != users[7]));
    assert_eq!(left.len(), USERS - 1);
    assert_eq!(held(redis).await, 0, "nothing is left behind");
}
