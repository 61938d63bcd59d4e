//! The clock of Redis is set back or ahead.

use std::time::Duration;

use harness::client::{Alive, crowd, send, try_send};
use harness::groups::put;
use harness::instance::{Instance, Settings};
use harness::names::Names;
use harness::process::Signal;
use harness::redis_server::RedisServer;
use harness::serial::run_quietly;
use harness::sse::{Stream, briefs};
use harness::timestamp::Timestamp;
use harness::wait::{eventually, eventually_true};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::failures::{FINITE, held};

const TTL: Duration = Duration::from_secs(3);

/// Additional time for a busy machine.
const SLACK: Duration = Duration::from_millis(1_500);

const HALF_A_MINUTE: Duration = Duration::from_secs(30);

async fn on_a_clock() -> (RedisServer, Vec<Instance>) {
    on_a_clock_with("3s", "1s").await
}

async fn on_a_clock_with(ttl: &str, ping_interval: &str) -> (RedisServer, Vec<Instance>) {
    let redis = RedisServer::start_with_clock().await;
    let settings = Settings::new()
        .with("PRESENCE_TTL", ttl)
        .with("PRESENCE_PING_INTERVAL", ping_interval)
        .with("REDIS_URL", &redis.url());
    let instances = vec![
        Instance::start(&settings).await,
        Instance::start(&settings).await,
    ];
    (redis, instances)
}

#[tokio::test]
async fn after_a_step_back_no_user_stays_longer_than_a_ttl() {
    run_quietly();
    let (redis, instances) = on_a_clock().await;
    let client = instances[0].client();
    let mut stream = Stream::open(&client, "").await;
    let silent = crowd("silent", 600);
    client.connect_each(&silent).await;
    client.connect_as("phoney", "phone").await;
    client.connect_as("phoney", "laptop").await;
    client.connect("alive").await;
    stream.changes(silent.len() + 2).await;
    redis.set_clock_ahead(-30_000);
    let stepped = Instant::now();
    // A sweep has noticed the step by then, so that the ping uses the new clock.
    sleep(Duration::from_millis(300)).await;
    assert!(!client.ping("alive").await.became_online);
    let last_ping = Instant::now();
    stream.changes(silent.len() + 2).await;
    assert!(
        last_ping.elapsed() < TTL + SLACK,
        "{:?}",
        last_ping.elapsed()
    );
    assert!(stepped.elapsed() > TTL);
    assert_eq!(client.count().await, 0);
    let now = Timestamp::now().less(HALF_A_MINUTE);
    for user in ["alive", "phoney", &silent[5]] {
        let seen = client.user(user).await.last_seen_at.expect("a time");
        assert!(now.millis_after(seen) >= 0, "{user} is seen in the future");
    }
}

/// The recheck ends when all users have left, and a second step is noticed too.
#[tokio::test]
async fn each_step_back_is_noticed() {
    run_quietly();
    let (redis, instances) = on_a_clock().await;
    let client = instances[1].client();
    let indexes = Names::default().all("deadlines");
    for step in 1..=2 {
        client.connect("alice").await;
        client.connect_as("bob", "phone").await;
        redis.set_clock_ahead(-600_000 * step);
        let stepped = Instant::now();
        eventually_true("both have left", async || {
            redis.sum("ZCOUNT", &indexes, &FINITE).await == 0
        })
        .await;
        assert!(
            stepped.elapsed() < TTL + SLACK,
            "step {step}: {:?}",
            stepped.elapsed()
        );
    }
    let rechecks = Names::default().all("recheck");
    assert_eq!(redis.sum("EXISTS", &rechecks, &[]).await, 0);
}

/// The step looks like an outage in which no client could ping.
#[tokio::test]
async fn after_a_step_ahead_users_can_ping_before_they_are_announced_offline() {
    run_quietly();
    let (redis, instances) = on_a_clock().await;
    let client = instances[0].client();
    let mut stream = Stream::open(&client, "").await;
    for user in ["alive", "silent"] {
        client.connect(user).await;
    }
    client.connect_as("phoney", "phone").await;
    redis.set_clock_ahead(60_000);
    sleep(Duration::from_millis(600)).await;
    for user in ["alive", "silent", "phoney"] {
        assert!(!client.user(user).await.online);
    }
    assert!(!client.ping("alive").await.became_online);
    assert!(!client.ping_as("phoney", "phone").await.became_online);
    let held = Instant::now();
    assert_eq!(
        briefs(&stream.changes(4).await)[3..],
        ["offline silent"],
        "no other user leaves"
    );
    assert!(held.elapsed() < Duration::from_millis(1_500) + SLACK);
    assert!(client.user("alive").await.online);
}

/// An instance learns of the step with its next sweep. Until then, its calls look too late to Redis.
#[tokio::test]
async fn right_after_a_step_ahead_users_join_groups() {
    let (redis, instances) = on_a_clock().await;
    let client = instances[0].client();
    let ping = json!({"groups": ["room"]});
    for step in 1..=5 {
        redis.set_clock_ahead(60_000 * step);
        let pinged = client.request(Method::POST, "/v1/users/alice/ping");
        let pinged = send(pinged.json(&ping)).await;
        assert_eq!(pinged.ok::<Value>()["groups"], json!(["room"]));
        redis.set_clock_ahead(60_000 * step + 30_000);
        put(&client, "team", &["alice"]).await;
    }
}

/// The hold of a seat in a group is not stored. It follows from the outage, which ended in the future by the new clock.
#[tokio::test]
async fn a_step_back_after_an_outage_ends_no_seat_before_its_user_can_ping() {
    run_quietly();
    // The hold is 3.6 s.
    let (redis, instances) = on_a_clock_with("5s", "3s").await;
    let client = instances[0].client();
    let mut room = Stream::open(&client, "?groupIds=room").await;
    let ping = async |user: &str| -> Value {
        let pinged = client.of_user(user, "ping");
        send(pinged.json(&json!({"groups": ["room"]}))).await.ok()
    };
    for user in ["alive", "silent"] {
        assert_eq!(ping(user).await["becameOnline"], true);
        assert_eq!(room.next().await.name, "group.joined");
    }
    redis.set_clock_ahead(60_000);
    eventually_true("both departures are held", async || held(&redis).await == 2).await;
    redis.set_clock_ahead(59_500);
    // The sweeps of both instances have noticed the step by then.
    sleep(Duration::from_millis(1_000)).await;
    let answer = ping("alive").await;
    let ttl: i64 = redis.command(&["PTTL", "presence:outages"]).await;
    assert!(ttl > 0, "the outages are kept for ever: {ttl}");
    assert_eq!(answer["becameOnline"], false);
    assert_eq!(answer["groups"], json!(["room"]));
    let heard = room.collect_until(|event| event.name == "group.left").await;
    let left = heard.last().expect("the event");
    assert_eq!(left.json()["userIds"], json!(["silent"]));
    assert!(
        !heard.iter().any(|event| event.brief() == "offline alive"),
        "{heard:?}"
    );
}

/// After a step ahead all departures are held. Then `freeze` prevents pings for longer than the hold.
async fn the_living_can_ping_after(
    freeze: impl Fn(&RedisServer, &[Instance]),
    thaw: impl Fn(&RedisServer, &[Instance]),
) {
    // The hold is 3.6 s: an interval and its margin.
    let (redis, instances) = on_a_clock_with("5s", "3s").await;
    let client = instances[0].client();
    let mut stream = Stream::open(&client, "").await;
    let users = [
        ("alive", "1"),
        ("phoney", "phone"),
        ("silent", "1"),
        ("mute", "phone"),
    ];
    for (user, connection) in users {
        client.connect_as(user, connection).await;
    }
    redis.set_clock_ahead(60_000);
    eventually_true("all departures are held", async || {
        held(&redis).await == users.len() as u64
    })
    .await;
    freeze(&redis, &instances);
    sleep(Duration::from_secs(4)).await;
    thaw(&redis, &instances);
    for (user, connection) in &users[..2] {
        let back = eventually("a ping is answered", async || {
            let ping = client.of_connection(user, "ping", connection);
            let answer = try_send(ping).await.ok()?;
            (answer.status == 200).then(|| answer.ok::<Alive>())
        });
        assert!(!back.await.became_online, "{user} left");
    }
    let mut told = briefs(&stream.changes(6).await).split_off(4);
    told.sort_unstable();
    assert_eq!(told, ["offline mute", "offline silent"]);
    assert_eq!(held(&redis).await, 0, "nothing is left behind");
}

#[tokio::test]
async fn a_frozen_redis_does_not_shorten_a_hold() {
    run_quietly();
    the_living_can_ping_after(|redis, _| redis.freeze(), |redis, _| redis.thaw()).await;
}

#[tokio::test]
async fn frozen_instances_do_not_shorten_a_hold() {
    run_quietly();
    let send = |instances: &[Instance], signal: Signal| {
        instances.iter().for_each(|instance| instance.send(signal));
    };
    the_living_can_ping_after(
        |_, instances| send(instances, Signal::Stop),
        |_, instances| send(instances, Signal::Continue),
    )
    .await;
}

/// The first step leaves an interval and its margin before the deadlines, so it holds nothing. The deadlines pass in
/// the second step, which is longer than the time that another step may take of a hold.
#[tokio::test]
async fn an_outage_that_left_time_to_ping_does_not_shorten_the_hold_after_the_next_one() {
    run_quietly();
    // The hold is 2.5 s, and only steps of more than 15.5 s are outages.
    let (redis, instances) = on_a_clock_with("20s", "2s").await;
    let client = instances[0].client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alive").await;
    // The index does not show the pings of the unnamed connection.
    sleep(Duration::from_secs(2)).await;
    client.ping("alive").await;
    client.connect_as("phoney", "phone").await;
    client.connect("silent").await;
    redis.set_clock_ahead(16_000);
    eventually_true("a sweep found the first step", async || {
        let outages = Names::default().all("outages");
        redis.sum("ZCARD", &outages, &[]).await == outages.len() as u64
    })
    .await;
    assert_eq!(client.count().await, 3);
    redis.set_clock_ahead(33_000);
    eventually_true("all departures are held", async || held(&redis).await == 3).await;
    assert!(!client.ping("alive").await.became_online);
    assert!(!client.ping_as("phoney", "phone").await.became_online);
    assert_eq!(
        briefs(&stream.changes(4).await)[3..],
        ["offline silent"],
        "no other user leaves"
    );
}

/// A first step of two seconds leaves three seconds before the deadlines, less than the hold. The deadlines pass in the
/// second step.
async fn the_hold_follows_a_second_step_of(ms: i64) {
    // The hold is 3.6 s, and steps of more than 1.5 s are outages.
    const HOLD_MS: f64 = 3_600.0;
    let (redis, instances) = on_a_clock_with("5s", "3s").await;
    let client = instances[0].client();
    let pingers = [
        ("alice", "1"),
        ("bob", "phone"),
        ("carol", "phone"),
        ("carol", "laptop"),
    ];
    for (user, connection) in pingers {
        client.connect_as(user, connection).await;
    }
    let names = Names::default();
    let outages = async |user: &str| -> Vec<String> {
        let outages = names.key("outages", user);
        redis.command(&["ZRANGE", &outages, "0", "-1"]).await
    };
    redis.set_clock_ahead(2_000);
    for user in ["alice", "bob", "carol"] {
        eventually_true("a sweep found the first step", async || {
            outages(user).await.len() == 1
        })
        .await;
    }
    redis.set_clock_ahead(2_000 + ms);
    eventually_true("all departures are held", async || held(&redis).await == 3).await;
    for user in ["alice", "bob", "carol"] {
        let known = outages(user).await;
        let ended = known[1].split(' ').nth(1).expect("two times");
        let hold_ends = ended.parse::<f64>().expect("a time") + HOLD_MS;
        let deadlines = names.key("deadlines", user);
        let score: f64 = redis.command(&["ZSCORE", &deadlines, user]).await;
        assert!(score >= hold_ends, "{user}: {score} {known:?}");
    }
    for (user, connection) in pingers {
        assert!(!client.ping_as(user, connection).await.became_online);
    }
}

#[tokio::test]
async fn an_outage_before_the_deadline_does_not_shorten_the_hold_after_the_outage_of_the_deadline()
{
    run_quietly();
    // The second step ends before or after the deadline and the hold together.
    tokio::join!(
        the_hold_follows_a_second_step_of(4_000),
        the_hold_follows_a_second_step_of(8_000),
    );
}

/// An outage and a hold by the old clock do not count by the new clock.
#[tokio::test]
async fn a_hold_is_no_longer_after_a_step_back() {
    run_quietly();
    let (redis, instances) = on_a_clock().await;
    let client = instances[0].client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    client.connect_as("bob", "phone").await;
    redis.set_clock_ahead(600_000);
    eventually_true("both departures are held", async || held(&redis).await == 2).await;
    redis.set_clock_ahead(0);
    let stepped = Instant::now();
    stream.changes(4).await;
    assert!(
        stepped.elapsed() < Duration::from_millis(1_500) + SLACK,
        "{:?}",
        stepped.elapsed()
    );
    assert!(client.connect("alice").await.became_online);
}

/// After a step back, the mark of a closed connection is in the future and does not count. It does not count later
/// either.
#[tokio::test]
async fn a_connection_that_came_back_after_a_step_back_is_not_refused_after_a_step_ahead() {
    run_quietly();
    let (redis, instances) = on_a_clock().await;
    let client = instances[0].client();
    client.connect("alice").await;
    client.disconnect_all("alice").await;
    redis.set_clock_ahead(-30_000);
    assert!(client.ping("alice").await.became_online);
    redis.set_clock_ahead(5_000);
    client.ping("alice").await;
}
