//! Histories that are not random.

use harness::redis_server::RedisServer;

use super::model::Touch;
use super::steps::Step;
use super::stores::{on_redis, open};
use super::{GRANTS, Run, Scene};

/// Plays the steps of one instance on the embedded store, and on Redis with 16 partitions and with one.
fn play_on_both(steps: impl IntoIterator<Item = Step>) {
    play(steps.into_iter().map(|step| (0, step)).collect());
}

/// Plays one history on these stores: each step on its instance, and on the embedded store all on one.
fn play(steps: Vec<(usize, Step)>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let redis = RedisServer::start().await;
        let embedded = Scene::of(0, || vec![open(GRANTS[0], 0, &[])]);
        let [many, one] = [0, 1].map(|number| Scene::of(number, || on_redis(&redis, number)));
        for scene in [embedded, many, one] {
            Run::play(scene, steps.clone()).await;
        }
    });
}

/// A new store answers calls before its first sweep.
#[test]
fn a_stall_before_the_first_sweep_holds_departures() {
    let connects = |user| Step::Touch(Touch::Connect, user, 0, 0);
    play_on_both([
        connects(0),
        connects(1),
        Step::Stall,
        Step::Sweep,
        Step::Touch(Touch::Ping, 0, 0, 0),
    ]);
}

/// The departure of the other connection is held meanwhile.
#[test]
fn a_connection_that_left_may_be_closed_again_after_its_end() {
    let connects = |connection| Step::Touch(Touch::Connect, 0, connection, 0);
    let before = [Step::Sweep, connects(0), Step::Pass(10), connects(2)];
    let left = [
        Step::Leave(0, 2, 300),
        Step::Stall,
        Step::Sweep,
        Step::Disconnect(0, 2),
    ];
    let wait = (0..7).flat_map(|_| [Step::Pass(99), Step::Sweep]);
    play_on_both(before.into_iter().chain(left).chain(wait));
}

/// The hold of a connection has ended when it is closed. An outage that began before would have prolonged the hold.
#[test]
fn a_connection_that_was_closed_after_its_hold_does_not_come_back_with_an_outage() {
    let connects = |connection| Step::Touch(Touch::Connect, 0, connection, 0);
    let before = [Step::Sweep, connects(0), connects(2), Step::Stall];
    let swept = (0..3).flat_map(|_| [Step::Sweep, connects(2), Step::Pass(80)]);
    let unswept = (0..3).flat_map(|_| [connects(2), Step::Pass(70)]);
    let closed = [
        Step::Disconnect(0, 0),
        Step::Pass(230),
        Step::Disconnect(0, 2),
    ];
    play_on_both(before.into_iter().chain(swept).chain(unswept).chain(closed));
}

/// The hold of the first connection ends 60 ms before that of the second one, whose grant has a longer interval. In
/// between, the third one finds no room.
#[test]
fn a_held_connection_stays_if_one_whose_hold_is_over_makes_room() {
    let connects = |connection| Step::Touch(Touch::Connect, 0, connection, 0);
    // The time before the first sweep is no outage that a throttled process explains together with the next one.
    let swept = (0..6).flat_map(|_| [Step::Sweep, Step::Pass(300)]);
    let mut steps: Vec<_> = swept.map(|step| (0, step)).collect();
    steps.extend([(0, Step::Sweep), (0, connects(0)), (1, connects(1))]);
    steps.extend([Step::Stall, Step::Sweep].map(|step| (0, step)));
    steps.extend([Step::Pass(400), Step::Sweep, Step::Pass(140)].map(|step| (0, step)));
    steps.extend([connects(2), Step::Disconnect(0, 2)].map(|step| (1, step)));
    play(steps);
}
