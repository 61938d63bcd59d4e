use tokio::time::advance;

use super::*;
use crate::config::Config;
use crate::events::{Doorbell, Limits};
use crate::memory_budget::MemoryBudget;
use crate::model::{MoveRole, Partitions};
use crate::presence::Answering;
use crate::store::{BEAT, RedisStore, Store};
use crate::telemetry::Metrics;

/// A sweeper of 16 partitions on a server that is not connected. None of them is quiet yet.
fn sweeper() -> NodeSweeper {
    let mut config = Config::default();
    config.redis.partitions = Partitions::new(16);
    let url = "redis://127.0.0.1:1".parse().expect("a URL");
    let store = RedisStore::open(&config, &url, MoveRole::Only).expect("a store");
    let store = Store::Redis(store);
    let metrics = Arc::new(Metrics::new());
    let limits = Limits::of(&config, MemoryBudget::of(1 << 30));
    let hub = Hub::new(Arc::clone(&metrics), limits, store.partitions());
    let shared = Shared::new(
        Arc::new(store),
        Arc::new(hub),
        Arc::new(Doorbell::default()),
        metrics,
        Answering::default(),
        Duration::from_millis(100),
    );
    let mut sweeper = NodeSweeper::new(Arc::new(shared), NodeId::ONLY);
    sweeper.follow_the_server();
    sweeper
}

/// A sweep that found nothing to do.
fn swept(partition: Partition, millis: u64) -> Swept {
    Swept {
        partition,
        former: None,
        now: Timestamp::from_millis(millis),
        epoch: Epoch(1),
        newest: Position::START,
        lateness_ms: Vec::new(),
        left: 0,
        overdue: 0,
        announced: 0,
        is_delicate: false,
        more: false,
        next_due: None,
        unfinished: None,
    }
}

/// A beat would replace the time of the last sweep, by which the sweep of a quiet partition finds out that the clock
/// was set back.
#[tokio::test(start_paused = true)]
async fn after_a_step_of_the_clock_no_beat_covers_a_quiet_partition_before_its_sweep() {
    let mut sweeper = sweeper();
    let partitions = sweeper.shared.store.partitions();
    let [busy, quiet] = [0, 1].map(|index| partitions.get(index).expect("one of 16"));
    let none = PartitionSet::default();
    sweeper.take((Instant::now(), none), swept(busy, 5_000_000), None);
    let part = sweeper.parts.get_mut(&quiet).expect("it is on the server");
    part.is_quiet = true;
    part.next = Instant::now() + LONGEST_REST;

    advance(BEAT).await;
    sweeper.take((Instant::now(), none), swept(busy, 5_000_800), None);
    let covered: Vec<_> = sweeper.quiet_parts().iter().collect();
    assert_eq!(covered, [quiet], "the clock was not set");

    advance(BEAT).await;
    sweeper.take((Instant::now(), none), swept(busy, 4_000_000), None);
    assert!(sweeper.quiet_parts().is_empty());
    assert!(sweeper.parts[&quiet].next <= Instant::now());
}
