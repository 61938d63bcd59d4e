//! Masters that die, freeze and fail over.

use std::time::{Duration, Instant};

use harness::instance::Instance;
use harness::redis_cluster::NODE_TIMEOUT_MS;
use harness::sse::Stream;
use harness::wait::eventually_true;
use tokio::time::sleep;

use super::scene::{Scene, settings, try_ping};

#[tokio::test]
async fn while_a_master_is_dead_only_its_users_are_refused() {
    let mut scene = Scene::with(&[]).await;
    let users = scene.users_of_masters(90).await;
    for users in users.values() {
        scene.client.connect_each(users).await;
    }
    let dead = 1;
    scene.redis.kill(dead);
    let killed = Instant::now();
    let mut refused = 0;
    // The replica takes over after the time-out of the nodes and an election.
    let limit = Duration::from_millis(NODE_TIMEOUT_MS) + Duration::from_secs(13);
    loop {
        for (master, users) in &users {
            let answer = try_ping(&scene.client, &users[refused % users.len()]).await;
            if *master == dead && answer.status == 503 {
                refused += 1;
                continue;
            }
            assert_eq!(
                answer.status, 200,
                "a user of master {master}: {}",
                answer.body
            );
        }
        let is_over = try_ping(&scene.client, &users[&dead][0]).await.status == 200;
        if is_over && refused > 0 {
            break;
        }
        assert!(
            killed.elapsed() < limit,
            "the users of the dead master are refused for ever"
        );
    }
    assert!(scene.redis.failed_over(dead).await != dead);
    eventually_true("all partitions are swept again", async || {
        scene.client.metric("presence_partitions_reachable").await == Some(64)
    })
    .await;
    for users in users.values() {
        for user in users {
            assert_eq!(try_ping(&scene.client, user).await.status, 200);
        }
    }
    assert_eq!(scene.client.count().await, 90);
    assert!(scene.client.get("/readyz").await.status.is_success());
    // An instance starts although one of the nodes in its URL is dead.
    let late = Instance::start(&settings(&scene.redis, &[])).await;
    assert_eq!(late.client().count().await, 90);
}

#[tokio::test]
async fn a_planned_failover_refuses_nobody_and_loses_nothing() {
    let scene = Scene::with(&[]).await;
    let users = scene.users_of_masters(60).await;
    let mut stream = Stream::open(&scene.client, "").await;
    for users in users.values() {
        scene.client.connect_each(users).await;
    }
    stream.changes(60).await;
    for round in 0..6 {
        let master = round % 3;
        let masters = scene.redis.masters().await;
        let failing_over = scene.redis.fail_over(masters[master]);
        tokio::pin!(failing_over);
        let mut place = 0;
        loop {
            for users in users.values() {
                let answer = try_ping(&scene.client, &users[place % users.len()]).await;
                assert_eq!(answer.status, 200, "{}", answer.body);
                assert!(
                    !answer.body.contains("\"becameOnline\":true"),
                    "{}",
                    answer.body
                );
            }
            place += 1;
            tokio::select! {
                biased;
                _ = &mut failing_over => break,
                () = sleep(Duration::from_millis(10)) => {}
            }
        }
    }
    // Longer than it takes to notice a lost event.
    sleep(Duration::from_secs(1)).await;
    let told = stream.unread();
    assert!(
        told.is_empty(),
        "nobody left, and nothing was lost: {told:?}"
    );
}

#[tokio::test]
async fn the_users_of_a_frozen_master_are_refused_and_the_others_are_not() {
    let scene = Scene::with(&[]).await;
    let users = scene.users_of_masters(60).await;
    for users in users.values() {
        scene.client.connect_each(users).await;
    }
    let frozen = 2;
    scene.redis.freeze(frozen);
    for (master, users) in &users {
        let began = Instant::now();
        let answer = try_ping(&scene.client, &users[0]).await;
        let expected = if *master == frozen { 503 } else { 200 };
        assert_eq!(answer.status, expected, "a user of master {master}");
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "the answer is late"
        );
    }
    assert!(scene.client.get("/readyz").await.status.is_success());
    scene.redis.failed_over(frozen).await;
    eventually_true("the users of the frozen master are served", async || {
        try_ping(&scene.client, &users[&frozen][0]).await.status == 200
    })
    .await;
    scene.redis.thaw(frozen);
    for users in users.values() {
        for user in users {
            assert_eq!(try_ping(&scene.client, user).await.status, 200);
        }
    }
}

/// The replica that takes over does not know the last events of its master.
#[tokio::test]
async fn a_lost_tail_resets_exactly_the_streams_that_watch_it() {
    let mut scene = Scene::with(&[]).await;
    let users = scene.users_of_masters(60).await;
    let (lost, kept) = (&users[&0][0], &users[&1][0]);
    let mut of_all = Stream::open(&scene.client, "").await;
    let mut of_lost = Stream::open(&scene.client, &format!("?userIds={lost}")).await;
    let mut of_kept = Stream::open(&scene.client, &format!("?userIds={kept}")).await;
    let client = &scene.client;
    scene
        .redis
        .lose_tail(0, async || {
            client.connect(lost).await;
            of_all.changes(1).await;
            of_lost.changes(1).await;
        })
        .await;
    for stream in [&mut of_all, &mut of_lost] {
        let reset = stream.next().await;
        assert_eq!(reset.name, "presence.reset", "{reset:?}");
    }
    scene.client.connect(kept).await;
    assert_eq!(of_kept.next().await.brief(), format!("online {kept}"));
}
