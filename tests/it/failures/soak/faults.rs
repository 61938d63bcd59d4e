//! The faults of instances, of their network, and of Redis.

mod denied;
mod instances;
mod redis;

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;

pub(super) use self::denied::{Denied, deny};
pub(super) use self::instances::harm_instances;
pub(super) use self::redis::{harm_redis, lose_data};

/// The pause after each fault, in milliseconds.
const REST_MS: Range<u64> = 300..2_500;

/// The length of a freeze, in milliseconds. Some freezes are outages, and some are too short.
const FREEZE_MS: Range<u64> = 500..4_000;

/// The length of any other fault, in milliseconds.
const DISTURBANCE_MS: Range<u64> = 300..3_000;

/// By then an instance has replaced its broken connections.
const RECONNECTS: Duration = Duration::from_secs(2);

/// By then an instance has replaced connections that were silent or refused: an attempt takes up to 3 s, and the next
/// one follows within a second.
const FINDS_REDIS: Duration = Duration::from_secs(4);

/// By then an instance that stood still has processed what had piled up.
const CATCHES_UP: Duration = Duration::from_secs(2);

/// The names of all faults.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    instances::names()
        .chain(redis::names())
        .chain(Denied::ALL.map(Denied::name))
}

/// Returns the items of `all` in random order, each once, and then again.
struct Deck<T> {
    all: Vec<T>,
    left: Vec<T>,
}

impl<T: Copy> Deck<T> {
    fn of(all: &[T]) -> Self {
        Self {
            all: all.to_vec(),
            left: Vec::new(),
        }
    }

    fn draw(&mut self, rng: &mut Rng) -> T {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            rng.shuffle(&mut self.left);
        }
        self.left.pop().expect("a deck is not empty")
    }
}

async fn last(rng: &mut Rng, range_ms: Range<u64>) {
    sleep(Duration::from_millis(rng.u64(range_ms))).await;
}
