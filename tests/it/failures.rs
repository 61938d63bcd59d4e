//! Failures of instances, of Redis, and of the network between them. No failure loses or repeats an event.
//!
//! In the tests with a [`scene::Scene`] Redis fails for a while. Two instances have users that keep pinging, and users
//! that have just stopped. During the failure each call is answered or refused within the limit. Afterwards the stopped
//! users leave once, and the pinging users have never left.

mod bus;
mod cluster;
mod cut_streams;
mod data_loss;
mod departures;
mod groups;
mod histories;
mod instance_deaths;
mod lateness;
mod load_shedding;
mod lost_history;
mod members_by_pinging;
mod moving;
mod network;
mod partitions;
mod paused_instances;
pub(crate) mod pingers;
mod quiet_instances;
mod races;
mod redis_connections;
mod redis_errors;
mod redis_restarts;
mod rolling_restart;
pub(crate) mod scene;
mod sentinel;
mod soak;
mod stale_connections;
mod throttled;
mod traffic;
mod unknown_entries;

use harness::deployment::Deployment;
use harness::names::Names;
use harness::redis_server::RedisServer;

/// The scores of the users in an index of deadlines. Each index has one more member, with the score `+inf`.
const FINITE: [&str; 2] = ["-inf", "(+inf"];

/// The number of users in the indexes of deadlines: those whose departure is not announced yet.
async fn announced(deployment: &Deployment) -> u64 {
    deployment.sum("ZCOUNT", "deadlines", &FINITE).await
}

/// The number of held departures.
async fn held(redis: &RedisServer) -> u64 {
    redis.sum("ZCARD", &Names::default().all("held"), &[]).await
}
