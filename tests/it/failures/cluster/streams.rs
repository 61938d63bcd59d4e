//! Streams over several masters.

use std::time::{Duration, Instant};

use harness::client::crowd;
use harness::instance::Instance;
use harness::sse::{Stream, alternating};

use super::scene::{Scene, settings};

#[tokio::test]
async fn a_stream_has_the_events_of_all_masters_and_resumes_on_another_instance() {
    let scene = Scene::with(&[]).await;
    let other = Instance::start(&settings(&scene.redis, &[])).await;
    let users = crowd("user", 120);
    let mut stream = Stream::open(&scene.client, "").await;
    scene.client.connect_each(&users[..60]).await;
    let events = stream.changes(60).await;
    assert_eq!(alternating(&events).len(), 60);
    let cursor = stream.last_id();
    drop(stream);
    scene.client.connect_each(&users[60..]).await;
    let mut resumed = Stream::resume(&other.client(), "", &cursor).await;
    let events = resumed.changes(60).await;
    assert_eq!(
        alternating(&events).len(),
        60,
        "each missed event comes once"
    );
    let mut snapshot = Stream::open(&other.client(), "?snapshot=true").await;
    assert_eq!(snapshot.snapshot().await.len(), 120);
}

#[tokio::test]
async fn streams_go_on_when_a_slot_moves_and_when_masters_fail_over() {
    let mut scene = Scene::with(&[]).await;
    let users = scene.users_of_masters(60).await;
    let mut stream = Stream::open(&scene.client, "").await;
    let partition = scene.names.partition_of(&users[&0][0]);
    let slot = scene.names.slot(partition);
    for to in [1, 0] {
        scene.redis.move_slot(slot, to).await;
        let began = Instant::now();
        scene.client.connect(&users[&0][0]).await;
        scene.client.disconnect(&users[&0][0]).await;
        stream.changes(2).await;
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "the event is late"
        );
    }
    let replica = scene.redis.fail_over(0).await;
    for users in users.values() {
        for user in users {
            scene.client.connect(user).await;
        }
    }
    stream.changes(60).await;
    // The other masters go on while this one is replaced.
    scene.redis.kill(replica);
    for user in users[&1].iter().chain(&users[&2]) {
        scene.client.disconnect(user).await;
    }
    stream.changes(users[&1].len() + users[&2].len()).await;
    assert!(stream.unread().iter().all(|event| event.is_routine()));
}
