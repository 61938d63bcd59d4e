//! Faults during a move: an instance is killed before and after the moment of the move, both stores are restarted, and
//! the next store is frozen.

use std::time::Duration;

use harness::client::crowd;
use harness::redis_server::RedisServer;
use harness::serial::run_quietly;
use tokio::time::sleep;

use super::fleet::Fleet;
use super::traffic::Traffic;
use super::{INSTANCES, all_caught_up, assert_calm, settings, streams};

/// How long a store is frozen, and the pause between two faults.
const A_WHILE: Duration = Duration::from_millis(1_200);

/// Longer than a move takes.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_during_a_move_take_no_user_offline_that_pings() {
    run_quietly();
    let (mut redis, mut next) = (
        RedisServer::start_durable().await,
        RedisServer::start_durable().await,
    );
    let during = settings(&redis.url())
        .with("REDIS_URL_NEXT", &next.url())
        .with("PRESENCE_PARTITIONS_NEXT", "16");
    let after = settings(&next.url()).with("PRESENCE_PARTITIONS", "16");
    let mut fleet = Fleet::start(INSTANCES, during.clone()).await;
    let clients = fleet.clients();
    let (steady, churning) = (crowd("steady", 24), crowd("churning", 4));
    clients[0].connect_each(&steady).await;
    let sources = streams(&clients).await;
    let mut traffic = Traffic::start(&clients, &steady, &churning);

    fleet.has_phase(1, LONG).await;
    redis.start_again().await;
    fleet.crash(0, &during).await;
    next.freeze();
    sleep(A_WHILE).await;
    next.thaw();
    sleep(A_WHILE).await;
    next.start_again().await;
    fleet.has_phase(2, LONG).await;
    fleet.crash(1, &during).await;
    next.start_again().await;
    fleet.has_phase(3, LONG).await;
    fleet.roll(after).await;

    all_caught_up(&clients[0], &sources).await;
    for source in &sources {
        assert_calm(source, &steady, &churning).await;
    }
    traffic.stop().await;
}
