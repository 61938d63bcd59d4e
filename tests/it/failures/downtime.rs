//! Times in which nobody could ping, and data that is lost.

use std::time::Duration;

use harness::client::crowd;
use harness::cluster::{Cluster, Store, on_both_stores};
use harness::instance::Settings;
use harness::process::Signal;
use harness::sse::{Stream, briefs};
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;

fn settings() -> Settings {
    Settings::mortal().with("PRESENCE_PING_INTERVAL", "1s")
}

#[tokio::test]
async fn after_all_were_down_the_living_never_left_and_the_gone_leave_once() {
    let mut cluster = Cluster::of(2, settings()).await;
    let watched = Stream::open(&cluster.client(), "").await;
    let cursor_before = watched.last_id();
    let users = crowd("user", 40);
    let (living, gone) = users.split_at(20);
    let alive = cluster.client().connect_each(&users).await;
    let deadline = alive.iter().map(|alive| alive.expires_at).max();
    for instance in &mut cluster.instances {
        instance.kill();
    }
    let deadline = deadline.expect("forty users");
    deadline.plus(Duration::from_secs(2)).pass().await;
    cluster.instances.clear();
    cluster.add_instance().await;
    let client = cluster.client();
    let mut stream = Stream::resume(&client, "", &cursor_before).await;
    let back = client.connect_each(living).await;
    assert!(
        back.iter().all(|alive| !alive.became_online),
        "nobody saw them leave"
    );
    let mut events = stream.changes(users.len()).await;
    while events.len() < users.len() + gone.len() {
        for user in living {
            client.ping(user).await;
        }
        events.extend(stream.unread());
        Timestamp::now()
            .plus(Duration::from_millis(200))
            .pass()
            .await;
    }
    let mut left: Vec<String> = events[users.len()..]
        .iter()
        .map(|event| event.user())
        .collect();
    left.sort_unstable();
    assert_eq!(left, gone, "each of the gone once, none of the living");
    let online = client.everyone().await;
    assert_eq!(online.len(), living.len(), "{online:?}");
}

#[tokio::test]
async fn after_a_frozen_redis_nobody_who_pings_left() {
    let cluster = Cluster::of(2, settings()).await;
    let client = cluster.client();
    let mut stream = Stream::open(&client, "").await;
    let users = crowd("user", 20);
    client.connect_each(&users).await;
    stream.changes(users.len()).await;
    cluster.redis().freeze();
    Timestamp::now().plus(Duration::from_secs(4)).pass().await;
    cluster.redis().thaw();
    harness::wait::eventually_true("redis is reached again", async || {
        client.get("/readyz").await.status == 200
    })
    .await;
    for _ in 0..3 {
        client.connect_each(&users).await;
        Timestamp::now()
            .plus(Duration::from_millis(500))
            .pass()
            .await;
    }
    let events = stream.events_before_now(&client, "marker").await;
    assert!(events.is_empty(), "{:?}", briefs(&events));
}

async fn an_instance_that_was_frozen_alone_announces_nobody_who_pings(store: Store) {
    let cluster = Cluster::with(store, settings()).await;
    let client = cluster.client();
    let mut stream = Stream::open(&client, "").await;
    client.connect("alice").await;
    cluster.instances[0].send(Signal::Stop);
    Timestamp::now().plus(Duration::from_secs(4)).pass().await;
    cluster.instances[0].send(Signal::Continue);
    // The living ping within an interval, not at once.
    Timestamp::now()
        .plus(Duration::from_millis(500))
        .pass()
        .await;
    let back = client.ping("alice").await;
    assert!(!back.became_online);
    let events = stream.events_before_now(&client, "marker").await;
    assert_eq!(briefs(&events), ["online alice"]);
}

#[tokio::test]
async fn when_the_data_is_lost_every_stream_is_told() {
    let cluster = Cluster::of(3, settings()).await;
    let clients = cluster.clients();
    clients[0].connect("alice").await;
    let mut streams = Vec::new();
    for client in &clients {
        streams.push(Stream::open(client, "").await);
        streams.push(Stream::open(client, "?userIds=bob").await);
        let mut with_snapshot = Stream::open(client, "?snapshot=true").await;
        assert_eq!(with_snapshot.snapshot().await, ["alice"]);
        streams.push(with_snapshot);
    }
    let old = streams[0].last_id();
    cluster.redis().flush_all().await;
    for stream in &mut streams {
        let reset = stream.next().await;
        assert_eq!(reset.name, "presence.reset");
        assert_eq!(reset.json()["reason"], "data-lost");
    }
    for stream in streams.iter_mut().skip(2).step_by(3) {
        assert_eq!(stream.snapshot().await, Vec::<String>::new());
    }
    assert!(clients[1].ping("bob").await.became_online);
    for stream in &mut streams {
        assert_eq!(stream.next().await.brief(), "online bob");
    }
    let mut resumed = Stream::resume(&clients[2], "", &old).await;
    assert_eq!(resumed.next().await.name, "presence.reset");
}

/// Killed and started again at its address, without its data: the same as if it had been emptied.
#[tokio::test]
async fn when_redis_comes_back_empty_every_stream_is_told() {
    let mut cluster = Cluster::of(2, settings()).await;
    cluster.client().connect("alice").await;
    let mut streams = Vec::new();
    for client in cluster.clients() {
        streams.push(Stream::open(&client, "").await);
        let mut with_snapshot = Stream::open(&client, "?snapshot=true").await;
        assert_eq!(with_snapshot.snapshot().await, ["alice"]);
        streams.push(with_snapshot);
    }
    cluster.redis_mut().start_again().await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.name, "presence.reset");
    }
    for stream in streams.iter_mut().skip(1).step_by(2) {
        assert_eq!(stream.snapshot().await, Vec::<String>::new());
    }
    assert!(cluster.client().connect("alice").await.became_online);
    for stream in &mut streams {
        assert_eq!(stream.next().await.brief(), "online alice");
    }
}

on_both_stores!(an_instance_that_was_frozen_alone_announces_nobody_who_pings,);

/// What was not swept during an outage is swept once, and not once by each instance.
#[tokio::test]
async fn instances_that_catch_up_together_share_the_work() {
    const USERS: u64 = 50_000;
    const AT_ONCE: usize = 5_000;
    let load = "for user = ARGV[1], ARGV[1] + ARGV[2] - 1 do
        redis.call('SET', 'presence:user:' .. user, '1', 'PX', 600000)
      end";
    let cluster = Cluster::of(3, settings()).await;
    let redis = cluster.redis();
    for first in (1..=USERS).step_by(AT_ONCE) {
        let (first, count) = (first.to_string(), AT_ONCE.to_string());
        redis
            .command::<()>(&["EVAL", load, "0", &first, &count])
            .await;
    }
    // All live, and it is long since anybody looked. In one step, so that all instances find them at once.
    let members: Vec<String> = (1..=USERS).map(|user| user.to_string()).collect();
    let mut enter = vec!["ZADD", "presence:deadlines"];
    enter.extend(members.iter().flat_map(|user| [&**user, &**user]));
    redis.command::<()>(&enter).await;
    eventually_true("everyone has been looked at", async || {
        redis
            .command::<u64>(&["ZCOUNT", "presence:deadlines", "-inf", "1000000"])
            .await
            == 0
    })
    .await;
    let looks = redis.calls_of("pexpiretime").await;
    assert!(looks >= USERS, "{looks} looks");
    assert!(looks < USERS * 3 / 2, "{looks} looks at {USERS} users");
}
