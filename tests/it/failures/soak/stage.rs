//! Three instances on one Redis, each behind its own proxy, so that one can be cut off.

use std::time::Duration;

use harness::client::Client;
use harness::instance::{Instance, Settings};
use harness::proxy::Proxy;
use harness::redis_server::RedisServer;

use super::super::scene::all_ready;
use super::journal::Journal;

pub(super) const INSTANCES: usize = 3;

/// The TTL.
pub(super) const TTL: Duration = Duration::from_secs(3);

/// The ping interval. It is short enough to keep users online, and long enough to repeat a failed call before the hold
/// of an outage ends.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(2);

/// The hold of departures after an outage: a ping interval and its margin.
pub(super) const HOLD: Duration = Duration::from_millis(2_500);

pub(super) struct Stage {
    pub(super) redis: RedisServer,
    pub(super) seats: Vec<Seat>,
}

/// An instance and its proxy.
pub(super) struct Seat {
    pub(super) number: usize,
    pub(super) instance: Instance,
    pub(super) proxy: Proxy,
    settings: Settings,
}

impl Stage {
    pub(super) async fn set(journal: &Journal) -> Self {
        let redis = RedisServer::start_with_clock().await;
        journal.clock_is_ahead(0);
        let mut seats = Vec::new();
        for number in 0..INSTANCES {
            let proxy = Proxy::to(redis.port()).await;
            let settings = Settings::new()
                .with("PRESENCE_TTL", &format!("{}s", TTL.as_secs()))
                .with(
                    "PRESENCE_PING_INTERVAL",
                    &format!("{}s", PING_INTERVAL.as_secs()),
                )
                .with("PRESENCE_DRAIN", "1s")
                .with("REDIS_URL", &proxy.url());
            let instance = Instance::start(&settings).await;
            let address = instance.address().to_string();
            seats.push(Seat {
                number,
                instance,
                proxy,
                settings: settings.with("PRESENCE_LISTEN", &address),
            });
        }
        let stage = Self { redis, seats };
        stage.all_ready().await;
        stage
    }

    pub(super) fn clients(&self) -> Vec<Client> {
        self.seats
            .iter()
            .map(|seat| seat.instance.client())
            .collect()
    }

    pub(super) async fn all_ready(&self) {
        all_ready(&self.clients()).await;
    }
}

impl Seat {
    /// Starts an instance at the address of the ended one.
    pub(super) async fn replace(&mut self) {
        self.instance = Instance::start(&self.settings).await;
    }
}
