//! A Redis user with the rights in `docs/operations.md`, or with fewer.

use std::collections::HashMap;

use harness::client::{Client, crowd, send};
use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;
use harness::sse::{Stream, briefs};
use harness::wait::eventually_true;
use redis::{FromRedisValue, Value};

/// The rights in `docs/operations.md`.
pub(crate) const RIGHTS: [&str; 11] = [
    "~presence:*",
    "&presence:*",
    "+@read",
    "+@write",
    "+@scripting",
    "+@transaction",
    "+@pubsub",
    "+@connection",
    "-@dangerous",
    "+info",
    "+time",
];

/// More users than one read returns.
const MANY: usize = 1_100;

/// A server with a user `ann` that has the documented rights and `changes`, and the settings for this user.
async fn ann(changes: &[&str]) -> (RedisServer, Settings) {
    let redis = RedisServer::start().await;
    let words = [
        &["ACL", "SETUSER", "ann", "on", ">secret"],
        &RIGHTS[..],
        changes,
    ]
    .concat();
    redis.command::<()>(&words).await;
    let url = redis.url().replace("//", "//ann:secret@");
    (redis, Settings::mortal().with("REDIS_URL", &url))
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let operations = include_str!("../../../docs/operations.md");
    assert!(operations.contains(&RIGHTS.join(" ")));
    let (redis, settings) = ann(&[]).await;
    let instance = Instance::start(&settings.with("PRESENCE_TTL", "10s")).await;
    let client = instance.client();
    let mut stream = Stream::open(&client, "?snapshot=true").await;
    assert!(stream.snapshot().await.is_empty());
    let users = crowd("user", MANY);
    client.connect_each(&users).await;
    client.connect_as(&users[0], "phone").await;
    assert_eq!(client.everyone().await, users);
    assert_eq!(client.count().await, MANY as u64);
    assert_eq!(client.online_among(&users[..1]).await, users[..1]);
    assert!(client.disconnect_as(&users[0], "phone").await.online);
    assert!(client.disconnect(&users[0]).await.became_offline);
    assert!(!client.user(&users[0]).await.online);
    stream.changes(MANY + 1).await;
    let cursor = stream.last_id();
    // One user stays online, so that sweeps re-arm a deadline. All others expire.
    let mut expired = Vec::new();
    eventually_true("all others have expired", async || {
        client.ping(&users[1]).await;
        expired.append(&mut stream.unread());
        expired.len() == MANY - 2
    })
    .await;
    let mut again = Stream::resume(&client, "", &cursor).await;
    assert_eq!(again.changes(MANY - 2).await, expired);
    assert_eq!(client.everyone().await, users[1..2]);
    for denied in redis
        .command::<Vec<HashMap<String, Value>>>(&["ACL", "LOG"])
        .await
    {
        let object = String::from_redis_value(denied["object"].clone()).expect("a name");
        let of_expiry_events = ["config|get", "__keyevent@0__:expired"];
        assert!(of_expiry_events.contains(&object.as_str()), "{denied:?}");
    }
}

/// Waits until the readiness check fails and `says_why`.
async fn wait_until_unready(client: &Client, when: &str, says_why: &str) {
    eventually_true(when, async || {
        let ready = client.get("/readyz").await;
        ready.status == 503 && ready.body.contains(says_why)
    })
    .await;
}

/// The right may be missing only within scripts, which the server runs as far as they get.
#[tokio::test]
async fn a_missing_right_is_named_by_the_readiness_check_and_the_log() {
    let (redis, settings) = ann(&["-xadd", "-hset"]).await;
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let says_why = "may not run these commands on the keys and channels of the service: HSET, XADD";
    wait_until_unready(&client, "the rights are missing from the start", says_why).await;
    assert_eq!(send(client.of_user("alice", "connect")).await.status, 503);
    assert!(instance.log().contains(says_why), "{}", instance.log());

    redis
        .command::<()>(&["ACL", "SETUSER", "ann", "+xadd", "+hset"])
        .await;
    eventually_true("the instance is ready", async || {
        client.get("/readyz").await.status == 200
    })
    .await;
    assert!(client.connect("alice").await.became_online);

    redis
        .command::<()>(&["ACL", "SETUSER", "ann", "-xadd", "-hset"])
        .await;
    assert_eq!(send(client.of_user("bob", "connect")).await.status, 503);
    wait_until_unready(&client, "the rights are withdrawn", says_why).await;
    assert!(
        instance.log().contains("redis forbids a command"),
        "{}",
        instance.log()
    );
}

/// The scripts about groups call this command by a function of their own.
#[tokio::test]
async fn a_missing_right_of_the_scripts_about_groups_is_named() {
    let (_redis, settings) = ann(&["-smismember"]).await;
    let instance = Instance::start(&settings).await;
    let says_why = "on the keys and channels of the service: SMISMEMBER";
    wait_until_unready(&instance.client(), "the cause shows", says_why).await;
}

/// The keys of the settings are not those of the access control list.
#[tokio::test]
async fn a_prefix_without_rights_is_named() {
    let (_redis, settings) = ann(&[]).await;
    let instance = Instance::start(&settings.with("PRESENCE_KEY_PREFIX", "other:")).await;
    let says_why = "on the keys and channels of the service: EVAL";
    wait_until_unready(&instance.client(), "the cause shows", says_why).await;
}

/// Expired users are announced, although the deadlines of online users cannot be re-armed.
#[tokio::test]
async fn refused_sweeps_are_logged() {
    let (redis, settings) = ann(&[]).await;
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let mut stream = Stream::open(&client, "").await;
    redis
        .command::<()>(&["ACL", "SETUSER", "ann", "-eval"])
        .await;
    client.connect("alice").await;
    client.connect("bob").await;
    eventually_true("the log has the cause", async || {
        client.ping("alice").await;
        let log = instance.log();
        let said = log.lines().find(|line| line.contains("no sweep succeeds"));
        said.is_some_and(|said| said.contains("'eval'"))
    })
    .await;
    let told = briefs(&stream.changes(3).await);
    assert_eq!(told, ["online alice", "online bob", "offline bob"]);
    let metrics = client.get("/metrics").await.body;
    let counted = "presence_transitions_total{kind=\"expired\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}
