//! Instances without a call to serve. They send Redis nearly nothing, and lose nothing by that.

use std::time::Duration;

use harness::instance::{Instance, Settings};
use harness::names::Names;
use harness::redis_server::RedisServer;
use harness::serial::run_quietly;
use harness::sse::Stream;
use harness::timestamp::Timestamp;
use harness::wait::eventually;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Longer than an instance takes to become quiet.
const SETTLED: Duration = Duration::from_secs(4);

/// How long commands are counted, and the maximum number of attempts: on a busy machine an instance stands still and
/// sweeps afterwards.
const COUNTED: Duration = Duration::from_secs(10);
const ATTEMPTS: usize = 4;

/// The most commands of a quiet instance in that time, with those inside of scripts.
const MOST_COMMANDS: u64 = 20;

/// Far below the rest of a quiet instance, and above what a busy machine adds.
const LATE_MS: i64 = 1_000;

/// Expiry notifications would wake the sweepers anyway.
fn settings(redis: &RedisServer) -> Settings {
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    settings.with("PRESENCE_KEYSPACE_EVENTS", "off")
}

async fn commands(redis: &RedisServer) -> u64 {
    redis.info("stats", "total_commands_processed").await
}

/// The fewest commands that a quiet instance sends in ten seconds: one with an online user, an open stream and a
/// receiver of webhooks, if `has_work` before.
async fn commands_of_a_quiet_instance(partitions: &str, has_work: bool) -> u64 {
    let redis = RedisServer::start().await;
    let mut settings = settings(&redis).with("PRESENCE_PARTITIONS", partitions);
    if has_work {
        let secret = "crm:whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        settings = settings
            .with("PRESENCE_WEBHOOKS", "crm:http://127.0.0.1:9/")
            .with("PRESENCE_WEBHOOK_SECRETS", secret);
    }
    let instance = Instance::start(&settings).await;
    let stream = match has_work {
        true => Some(Stream::open(&instance.client(), "?snapshot=true").await),
        false => None,
    };
    sleep(SETTLED).await;
    let mut fewest = u64::MAX;
    for _ in 0..ATTEMPTS {
        let before = commands(&redis).await;
        sleep(COUNTED).await;
        // INFO counts itself.
        fewest = fewest.min(commands(&redis).await - before - 1);
        if fewest <= MOST_COMMANDS {
            break;
        }
    }
    drop(stream);
    // The instance is not dead.
    instance.client().connect("alice").await;
    assert_eq!(instance.client().count().await, 1);
    fewest
}

#[tokio::test]
async fn a_quiet_instance_sends_at_most_two_commands_a_second() {
    let counted = tokio::join!(
        commands_of_a_quiet_instance("1", false),
        commands_of_a_quiet_instance("1", true),
        commands_of_a_quiet_instance("16", false),
        commands_of_a_quiet_instance("16", true),
    );
    let (a, b, c, d) = counted;
    assert!(
        [a, b, c, d].iter().all(|each| *each <= MOST_COMMANDS),
        "{counted:?}"
    );
    // It also shows that it is there.
    assert!([a, b, c, d].iter().all(|each| *each > 0), "{counted:?}");
}

/// A user comes due earlier than a quiet instance knew, and the instance that knew it dies at once.
#[tokio::test]
async fn a_nearer_deadline_is_known_to_all_instances() {
    let redis = RedisServer::start().await;
    let quiet = Instance::start(&settings(&redis)).await;
    let mut stream = Stream::open(&quiet.client(), "").await;
    quiet.client().connect("alice").await;
    quiet.client().connect("bob").await;
    stream.changes(2).await;
    let mut other = Instance::start(&settings(&redis)).await;
    sleep(SETTLED).await;

    let client = other.client();
    let leaving = json!({"graceMs": 1_500});
    let left = client.post("/v1/users/alice/disconnect", &leaving).await;
    let short = json!({"ttlMs": 1_500});
    let new = client.post("/v1/users/carol/connect", &short).await;
    other.kill();
    assert!(new.ok::<Value>()["becameOnline"] == true, "{}", new.body);
    let ends: Value = left.ok();
    assert!(ends["leavesAt"].is_string(), "{ends}");
    let changes = stream.changes(3).await;
    assert_eq!(changes[0].brief(), "online carol");
    for departure in &changes[1..] {
        let (user, at) = (departure.user(), departure.timestamp());
        let late = at.millis_after(departure.last_seen_at().later_by(1_500));
        assert!(late < LATE_MS, "{user} was announced {late} ms late");
    }
    assert_eq!(quiet.client().everyone().await, ["bob"]);
}

/// A connection states a group, and the instance that knows it dies at once. The group is in another partition than the
/// user.
#[tokio::test]
async fn a_nearer_end_in_a_group_is_known_to_all_instances() {
    let redis = RedisServer::start().await;
    let settings = settings(&redis).with("PRESENCE_PARTITIONS", "16");
    let _quiet = Instance::start(&settings).await;
    let mut other = Instance::start(&settings).await;
    sleep(SETTLED).await;
    let body = json!({"ttlMs": 1_500, "groups": ["doc-1"]});
    let joined = other.client().post("/v1/users/carol/connect", &body).await;
    other.kill();
    assert_eq!(joined.ok::<Value>()["groups"], json!(["doc-1"]));
    let history = Names::new("presence:", 16).key("events", "doc-1");
    let told = eventually("the member left", async || {
        let entries: Vec<(String, Vec<String>)> =
            redis.command(&["XRANGE", &history, "-", "+"]).await;
        (entries.len() == 2).then_some(entries)
    })
    .await;
    let time = |place: usize| {
        told[place]
            .0
            .split('-')
            .next()
            .and_then(|ms| ms.parse().ok())
    };
    let (joined, left): (i64, i64) = (time(0).expect("a time"), time(1).expect("a time"));
    let late = left - joined - 1_500;
    assert!((0..LATE_MS).contains(&late), "{late} ms late");
}

/// The instance waits for calls for longer than any outage that this TTL absorbs.
#[tokio::test]
async fn the_time_of_a_quiet_instance_is_no_outage() {
    let redis = RedisServer::start().await;
    let settings = settings(&redis)
        .with("PRESENCE_TTL", "8s")
        .with("PRESENCE_PING_INTERVAL", "3s");
    let instance = Instance::start(&settings).await;
    let mut stream = Stream::open(&instance.client(), "").await;
    let deadline = instance.client().connect("alice").await.expires_at;
    let changes = stream.changes(2).await;
    assert_eq!(changes[1].brief(), "offline alice");
    let late = changes[1].timestamp().millis_after(deadline);
    assert!(late < LATE_MS, "{late} ms late");

    // A call after the rest meets no outage either: the second connection waits for nothing.
    instance.client().connect_as("bob", "phone").await;
    instance.client().connect_as("bob", "tab").await;
    sleep(SETTLED).await;
    instance.client().disconnect_as("bob", "phone").await;
    let left = instance.client().disconnect_as("bob", "tab").await;
    assert!(left.became_offline && !left.online, "{left:?}");
}

/// The time between two beats in which a quiet instance writes until when it was ready. The server stands still for
/// `STALL`: from a beat until just before the next one.
const WRITES: Duration = Duration::from_millis(1_600);
const STALL: Duration = Duration::from_millis(750);

/// Beats alone would not notice the stall. The grant absorbs half a second.
#[tokio::test]
async fn a_stall_that_a_grant_does_not_absorb_is_noticed_between_two_beats() {
    run_quietly();
    let redis = RedisServer::start().await;
    let settings = settings(&redis)
        .with("PRESENCE_TTL", "4s")
        .with("PRESENCE_PING_INTERVAL", "3400ms");
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let deadline = client.connect("alice").await.expires_at;
    let latest = deadline.less(STALL + Duration::from_millis(200));
    latest.less(WRITES).pass().await;
    let written = redis.calls_of("mset").await;
    while redis.calls_of("mset").await == written && Timestamp::now().millis_after(latest) < 0 {
        sleep(Duration::from_millis(5)).await;
    }
    redis.freeze();
    sleep(STALL).await;
    redis.thaw();
    deadline.plus(Duration::from_millis(400)).pass().await;
    assert!(!client.user("alice").await.online);
    assert!(!client.ping("alice").await.became_online, "alice left");
}

/// Nobody deletes the data of a service on purpose, but a quiet instance finds out.
#[tokio::test]
async fn a_quiet_instance_notices_that_the_data_are_gone() {
    let redis = RedisServer::start().await;
    let instance = Instance::start(&settings(&redis)).await;
    instance.client().connect("alice").await;
    let mut stream = Stream::open(&instance.client(), "").await;
    sleep(SETTLED).await;
    redis.flush_all().await;
    assert_eq!(stream.next().await.name, "presence.reset");
    instance.client().connect("alice").await;
    assert_eq!(stream.next().await.brief(), "online alice");
}
