//! A new instance reads the history once, and answers every resume from its memory.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use harness::client::{Client, crowd};
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::names::partitions_of_tests;
use harness::sse::{Event, Stream, assert_same_changes, briefs};

const USERS: usize = 300;
const STREAMS: usize = 150;

/// Far fewer reads than streams, and more than the reads of sweeps and of the bus.
const FEW: u64 = 60;

/// Connects and disconnects many users after the cursor of a closed stream.
async fn missed_by_all(client: &Client) -> (String, Vec<Event>) {
    let cursor = Stream::open(client, "").await.last_id();
    let mut stream = Stream::open(client, "").await;
    let users = crowd("user", USERS);
    client.connect_each(&users).await;
    for user in &users {
        client.disconnect(user).await;
    }
    let missed = stream.changes(2 * USERS).await;
    (cursor, missed)
}

#[tokio::test]
async fn a_fresh_instance_resumes_many_streams_without_a_read_for_each() {
    let mut deployment = Deployment::on_one_server(2, Settings::new()).await;
    let (cursor, missed) = missed_by_all(&deployment.client()).await;
    deployment.instances[1].kill();
    deployment.replace(1).await;
    let fresh = deployment.clients()[1].clone();
    let before = deployment.redis().calls_of("xrange").await;
    let resumed = (0..STREAMS).map(async |number| {
        let user = format!("user-{:05}", number % USERS);
        let query = match number % 2 {
            0 => String::new(),
            _ => format!("?userIds={user},nobody"),
        };
        let mut stream = Stream::resume(&fresh, &query, &cursor).await;
        let count = if query.is_empty() { 2 * USERS } else { 2 };
        (user, query, stream.changes(count).await)
    });
    for (user, query, told) in join_all(resumed).await {
        if query.is_empty() {
            assert_same_changes(&told, &missed);
        } else {
            assert_eq!(
                briefs(&told),
                [format!("online {user}"), format!("offline {user}")]
            );
        }
    }
    let reads = deployment.redis().calls_of("xrange").await - before;
    assert!(reads < FEW, "{reads} reads of the history");
    let log = deployment.instances[1].log();
    let mut warnings = log.lines().filter(|line| line.contains("WARN"));
    assert!(warnings.all(|line| line.contains("open mode")), "{log}");
}

#[tokio::test]
async fn a_resume_does_not_read_the_history_of_the_store() {
    let deployment = Deployment::on_one_server(1, Settings::new()).await;
    let client = deployment.client();
    let (cursor, _) = missed_by_all(&client).await;
    let before = deployment.redis().calls_of("xrange").await;
    for _ in 0..FEW {
        let mut stream = Stream::resume(&client, "?userIds=user-00007", &cursor).await;
        assert_eq!(briefs(&stream.changes(2).await).len(), 2);
    }
    let reads = deployment.redis().calls_of("xrange").await - before;
    assert!(reads < FEW / 2, "{reads} reads of the history");
}

/// A long replay is delivered in parts while events go on.
#[tokio::test]
async fn a_long_replay_has_no_gap_while_events_go_on() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    let cursor = Stream::open(&client, "").await.last_id();
    let users = crowd("user", 1_500);
    client.connect_each(&users).await;
    let chosen = format!("?userIds={}", users[500..520].join(","));
    let mut streams = BTreeMap::new();
    for query in ["", &*chosen] {
        streams.insert(query, Stream::resume(&client, query, &cursor).await);
    }
    for user in &users[..600] {
        client.disconnect(user).await;
    }
    client.disconnect(&users[510]).await;
    let mut everything = streams.remove("").expect("a stream");
    let told = everything.changes(2_100).await;
    let mut online: Vec<_> = briefs(&told[..1_500]);
    online.sort_unstable();
    assert_eq!(online.len(), 1_500);
    online.dedup();
    assert_eq!(online.len(), 1_500);
    let gone: Vec<_> = users[..600]
        .iter()
        .map(|user| format!("offline {user}"))
        .collect();
    let mut told = briefs(&told[1_500..]);
    if partitions_of_tests() > 1 {
        told.sort_unstable();
    }
    assert_eq!(told, gone);
    let mut some = streams.remove(&*chosen).expect("a stream");
    let mut told = briefs(&some.changes(40).await);
    if partitions_of_tests() > 1 {
        told[20..].sort_unstable();
    }
    let gone: Vec<_> = users[500..520]
        .iter()
        .map(|user| format!("offline {user}"))
        .collect();
    assert_eq!(told[20..], gone);
}
