//! The stores of the histories.

use std::time::Duration;

use clap::Parser;
use harness::redis_cluster::RedisCluster;
use harness::redis_server::RedisServer;
use presence::config::Config;
use presence::store::Store;

use super::groups::most_members;
use super::model::Grant;
use super::{GRANTS, MOST_CONNECTIONS};

/// The stores of two instances on one Redis. A quarter of the histories divide the users into 16 partitions, where each
/// user is in another one.
pub(super) fn on_redis(redis: &RedisServer, number: usize) -> Vec<Store> {
    let partitions = if number.is_multiple_of(4) { "16" } else { "1" };
    let prefix = format!("history-{number}:");
    let url = redis.url();
    let flags = [
        "--redis-url",
        &url,
        "--key-prefix",
        &prefix,
        "--partitions",
        partitions,
    ];
    GRANTS.map(|grant| open(grant, number, &flags)).into()
}

/// The stores of two instances on a cluster.
pub(super) fn on_cluster(redis: &RedisCluster, number: usize) -> Vec<Store> {
    let prefix = format!("history-{number}:");
    let flags = ["--redis-url", &redis.url(), "--key-prefix", &prefix];
    GRANTS.map(|grant| open(grant, number, &flags)).into()
}

/// A store of the history `number`, as an instance with the grant `grant` opens it.
pub(super) fn open(grant: Grant, number: usize, flags: &[&str]) -> Store {
    let ms = |duration: Duration| format!("{}ms", duration.as_millis());
    let (ttl, interval) = (ms(grant.ttl), ms(grant.ping_interval));
    let (most, most_members) = (
        MOST_CONNECTIONS.to_string(),
        most_members(number).to_string(),
    );
    let own = ["presence", "--ttl", &ttl, "--ping-interval", &interval];
    let limits = [
        "--user-connections",
        &most,
        "--group-members",
        &most_members,
    ];
    let own = own.into_iter().chain(limits);
    let config = Config::try_parse_from(own.chain(flags.iter().copied()));
    Store::open(&config.expect("good flags")).expect("a store")
}
