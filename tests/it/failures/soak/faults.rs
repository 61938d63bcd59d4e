//! What is done to the instances, their network and their Redis.

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

/// The rest after each fault, in ms.
const REST_MS: Range<u64> = 300..2_500;

/// How long a freeze lasts, in ms: some are outages, some are too short to be one.
const FREEZE_MS: Range<u64> = 500..4_000;

/// How long any other disturbance lasts, in ms.
const DISTURBANCE_MS: Range<u64> = 300..3_000;

/// Within this time an instance whose connections broke has new ones.
const RECONNECTS: Duration = Duration::from_secs(2);

/// Within this time an instance has its connections again that were mute or refused: an attempt takes 3 s at most, and
/// the next comes a second later at most.
const FINDS_REDIS: Duration = Duration::from_secs(4);

/// Within this time an instance that stood still has done what piled up meanwhile.
const CATCHES_UP: Duration = Duration::from_secs(2);

/// The names of all faults there are.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    instances::names()
        .chain(redis::names())
        .chain(Denied::ALL.map(Denied::name))
}

/// Gives out each of `all` once in a random order, and again.
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
