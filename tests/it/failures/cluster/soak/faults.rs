//! The faults of the nodes of a cluster. None loses data: a master accepts no write before it dies, and its replica has
//! everything.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use harness::names::Names;
use harness::sse::EventSource;
use harness::timestamp::Timestamp;
use tokio::time::{Instant, sleep};

use super::callers::Refusal;
use crate::failures::cluster::scene::Scene;

/// The pause after each fault, in milliseconds.
const REST_MS: Range<u64> = 500..2_000;

/// The length of a freeze that is too short for a failover, in milliseconds.
const SHORT_FREEZE_MS: Range<u64> = 300..1_500;

/// By then an instance has found the new master and has replaced its connections.
const RECOVERY: Duration = Duration::from_secs(4);

/// The time between two looks at the machine, and a longer time that counts as a stall.
const TICK: Duration = Duration::from_millis(20);
const STALL: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug)]
enum Fault {
    FailedOver,
    Killed,
    ReplicaKilled,
    FrozenShortly,
    FrozenUntilReplaced,
    SlotMoved,
    NodeJoinedAndLeft,
    SubscribersKilled,
    ReadersCut,
}

const ALL: [Fault; 9] = [
    Fault::FailedOver,
    Fault::Killed,
    Fault::ReplicaKilled,
    Fault::FrozenShortly,
    Fault::FrozenUntilReplaced,
    Fault::SlotMoved,
    Fault::NodeJoinedAndLeft,
    Fault::SubscribersKilled,
    Fault::ReadersCut,
];

/// A time in which calls for the users of some partitions may be refused.
#[derive(Clone, Debug)]
pub(super) struct Harm {
    partitions: Vec<usize>,
    from: Instant,
    until: Instant,
}

impl Harm {
    pub(super) fn explains(&self, refusal: &Refusal, names: &Names) -> bool {
        let partition = names.partition_of(&refusal.user);
        let meanwhile = refusal.answered >= self.from && refusal.asked <= self.until;
        meanwhile && self.partitions.contains(&partition)
    }
}

/// Notes each time in which the machine did not run this task: everything may be late then.
pub(super) async fn watch_the_machine(names: Names, harms: Arc<Mutex<Vec<Harm>>>) {
    let mut before = Instant::now();
    loop {
        sleep(TICK).await;
        let now = Instant::now();
        if now - before > STALL {
            let harm = Harm {
                partitions: (0..names.partitions()).collect(),
                from: before,
                until: now + RECOVERY,
            };
            harms.lock().expect("no task panicked").push(harm);
        }
        before = now;
    }
}

/// Causes faults until `end`, each kind once before a kind is repeated.
pub(super) async fn until(
    end: Instant,
    scene: &mut Scene,
    readers: &[&EventSource],
    rng: &mut Rng,
) -> Vec<Harm> {
    let (mut deck, mut harms) = (Vec::new(), Vec::new());
    while Instant::now() < end {
        if deck.is_empty() {
            deck = ALL.to_vec();
            rng.shuffle(&mut deck);
        }
        let fault = deck.pop().expect("a full deck");
        let masters = scene.redis.masters().await;
        let master = masters[rng.usize(..masters.len())];
        println!("{:?}: {fault:?} at node {master}", Timestamp::now());
        let partitions = scene.redis.partitions_of(&scene.names, master).await;
        let from = Instant::now();
        if cause(fault, master, scene, readers, rng).await {
            harms.push(Harm {
                partitions,
                from,
                until: Instant::now() + RECOVERY,
            });
        }
        mend(master, scene).await;
        sleep(Duration::from_millis(rng.u64(REST_MS))).await;
    }
    harms
}

/// Causes the fault. Returns whether calls for the users of the master may be refused.
async fn cause(
    fault: Fault,
    master: usize,
    scene: &mut Scene,
    readers: &[&EventSource],
    rng: &mut Rng,
) -> bool {
    let redis = &mut scene.redis;
    match fault {
        Fault::FailedOver => {
            redis.fail_over(master).await;
        }
        Fault::Killed => {
            scene.quiesce(master).await;
            let redis = &mut scene.redis;
            redis.kill(master);
            redis.failed_over(master).await;
            return true;
        }
        Fault::ReplicaKilled => redis.kill(redis.partner_of(master)),
        Fault::FrozenShortly => {
            redis.freeze(master);
            sleep(Duration::from_millis(rng.u64(SHORT_FREEZE_MS))).await;
            redis.thaw(master);
            return true;
        }
        Fault::FrozenUntilReplaced => {
            scene.quiesce(master).await;
            let redis = &mut scene.redis;
            redis.freeze(master);
            redis.failed_over(master).await;
            // It runs calls that wait in its sockets, before it learns that it was replaced.
            redis.thaw(master);
            return true;
        }
        Fault::SlotMoved => move_a_slot(master, scene, rng).await,
        Fault::NodeJoinedAndLeft => let_a_node_join(master, scene, rng).await,
        Fault::SubscribersKilled => {
            let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
            redis.node(master).command::<usize>(&kill).await;
        }
        Fault::ReadersCut => readers.iter().for_each(|reader| reader.cut()),
    }
    false
}

/// Moves a slot to another master and back.
async fn move_a_slot(master: usize, scene: &mut Scene, rng: &mut Rng) {
    let redis = &mut scene.redis;
    let others = redis.masters().await;
    let partitions = redis.partitions_of(&scene.names, master).await;
    let slot = scene.names.slot(partitions[rng.usize(..partitions.len())]);
    let to = others.into_iter().find(|other| *other != master);
    let to = to.expect("another master");
    redis.move_slot(slot, to).await;
    redis.move_slot(slot, master).await;
}

/// Adds a master, which has a slot for a while, and removes it.
async fn let_a_node_join(master: usize, scene: &mut Scene, rng: &mut Rng) {
    let redis = &mut scene.redis;
    let partitions = redis.partitions_of(&scene.names, master).await;
    let slot = scene.names.slot(partitions[0]);
    let added = redis.add_node().await;
    redis.move_slot(slot, added).await;
    sleep(Duration::from_millis(rng.u64(REST_MS))).await;
    redis.move_slot(slot, master).await;
    redis.remove_last_node().await;
}

/// Starts the dead nodes of the pair of `master` again, and waits until all nodes agree and the pair is in sync.
async fn mend(master: usize, scene: &mut Scene) {
    for node in [master, scene.redis.partner_of(master)] {
        scene.redis.revive(node).await;
    }
    scene.redis.agreed().await;
    for node in [master, scene.redis.partner_of(master)] {
        if !scene.redis.masters().await.contains(&node) {
            scene.redis.node(node).has_caught_up().await;
        }
    }
}
