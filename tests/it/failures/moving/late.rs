//! The moment of the move: it waits for every instance and for the next store, and afterwards the former store serves
//! nobody.

use std::time::Duration;

use harness::instance::Instance;
use harness::redis_server::RedisServer;
use harness::wait::eventually_true;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::fleet::Fleet;
use super::{groups, set_status, settings, status};
use crate::failures::scene::all_ready;

/// Longer than a move takes.
const LONG: Duration = Duration::from_secs(60);

async fn says(instance: &Instance, reason: &str) {
    eventually_true(reason, async || {
        let answer = instance.client().get("/readyz").await;
        answer.status == 200 && answer.body.contains(reason)
    })
    .await;
}

#[tokio::test]
async fn the_move_waits_for_instances_with_the_former_settings_and_stops_them_afterwards() {
    let (mut redis, next) = (RedisServer::start().await, RedisServer::start().await);
    let alone = settings(&redis.url());
    let mut former = Instance::start(&alone).await;
    let moving = alone.clone().with("REDIS_URL_NEXT", &next.url());
    let fleet = Fleet::start(1, moving.clone()).await;
    let [instance] = &fleet.instances[..] else {
        unreachable!("one instance was started");
    };
    says(
        instance,
        "1 of 2 instances do not write to the same next store",
    )
    .await;
    let other_next = RedisServer::start().await;
    let mut lost = Instance::start(&alone.clone().with("REDIS_URL_NEXT", &other_next.url())).await;
    says(
        instance,
        "2 of 3 instances do not write to the same next store",
    )
    .await;
    former.kill();
    lost.kill();
    fleet.has_phase(3, LONG).await;
    says(instance, "set REDIS_URL, PRESENCE_KEY_PREFIX").await;

    let late = Instance::start(&alone).await;
    let cause = "the data moved to another store; set REDIS_URL to that store";
    eventually_true(cause, async || {
        let answer = late.client().get("/readyz").await;
        answer.status == StatusCode::SERVICE_UNAVAILABLE && answer.body.contains(cause)
    })
    .await;
    // An instance that starts late with the settings of the move begins after it.
    let restarted = Fleet::start(1, moving).await;
    instance.client().connect("alice").await;
    assert!(restarted.clients()[0].user("alice").await.online);
    let after = Instance::start(&settings(&next.url())).await;
    all_ready(&[after.client()]).await;
    assert!(after.client().user("alice").await.online);

    // Nobody needs the former store any more.
    redis.kill();
    assert!(instance.client().connect("bob").await.became_online);
    assert!(after.client().user("bob").await.online);
    all_ready(&[instance.client()]).await;
}

#[tokio::test]
async fn a_next_store_that_fails_delays_the_move_and_no_call() {
    let (redis, mut next) = (RedisServer::start().await, RedisServer::start().await);
    let moving = settings(&redis.url()).with("REDIS_URL_NEXT", &next.url());
    let fleet = Fleet::start(2, moving).await;
    let clients = fleet.clients();
    clients[0].connect("alice").await;
    says(&fleet.instances[0], "both stores are written").await;
    next.kill();
    for turn in 0..20 {
        let alive = clients[turn % 2].ping("alice").await;
        assert!(alive.online && !alive.became_online);
        sleep(Duration::from_millis(100)).await;
    }
    says(&fleet.instances[0], "the next store is out of reach").await;
    assert!(clients[0].metric("presence_move_missed_writes_total").await > Some(0));
    next.start_again().await;
    let pings = async {
        loop {
            for client in &clients {
                let alive = client.ping("alice").await;
                assert!(alive.online && !alive.became_online);
                sleep(Duration::from_millis(300)).await;
            }
        }
    };
    tokio::select! {
        () = pings => {}
        () = fleet.has_phase(2, LONG) => {}
    }
    for client in &clients {
        assert!(client.user("alice").await.online);
    }
}

/// Only the instance that asked last knows the moment of the move. The other one must not copy the lack of groups and
/// statuses to a store that answers.
#[tokio::test]
async fn a_former_store_that_loses_its_data_before_the_moment_of_the_move_takes_nothing_from_the_next_one()
 {
    let (redis, next) = (RedisServer::start().await, RedisServer::start().await);
    let moving = settings(&redis.url()).with("REDIS_URL_NEXT", &next.url());
    let fleet = Fleet::start(2, moving).await;
    let clients = fleet.clients();
    set_status(&clients[0], "alice", Some("dnd")).await;
    let team = json!({"members": ["alice", "bob"]});
    groups::write(&clients[0], Method::PUT, "team", team).await;
    let give_up = Instant::now() + LONG;
    let moment = ["HGET", "presence:moving", "at"];
    while redis.command::<Option<String>>(&moment).await.is_none() {
        assert!(Instant::now() < give_up, "{}", fleet.instances[0].log());
        sleep(Duration::from_millis(2)).await;
    }
    redis.flush_all().await;
    fleet.has_phase(2, LONG).await;
    for client in &clients {
        assert_eq!(groups::read(client, "team").await.0, 2);
        let status = status(client, "alice").await.expect("a status");
        assert_eq!(status["status"], "dnd");
    }
}
