//! Which stalls hold a departure, and for how long.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_stall_that_the_grant_absorbs_holds_no_departure() {
    let store = store(60.0, 25.0);
    store.connects("silent", "1");
    store.pass(20.0).await;
    store.stall(1.7).await;
    store.pass(38.0).await;
    assert_eq!(store.changes(), ["+silent"]);
    store.stall(1.7).await;
    store.sweep();
    assert_eq!(store.changes(), ["+silent", "-silent"]);
}

#[tokio::test(start_paused = true)]
async fn a_stall_before_the_first_sweep_holds_departures() {
    let store = store(6.0, 2.5);
    store.connects("alive", "1");
    advance(seconds(7.0)).await;
    store.sweep();
    assert_eq!(store.changes(), ["+alive"]);
    assert_eq!(store.pings("alive", "1"), Ok(false));
}

#[tokio::test(start_paused = true)]
async fn the_shortest_outage_depends_on_ttl_and_interval() {
    for (ttl, interval, short, long) in [
        (2.0, 0.83, 0.85, 1.4),
        (2.9, 0.9, 1.45, 1.6),
        (1.0, 0.9, 0.45, 0.6),
    ] {
        let store = store(ttl, interval);
        for (user, stall) in [("silent", short), ("alive", long)] {
            store.connects(user, "1");
            store.pass(ttl - 0.2).await;
            store.stall(stall).await;
            store.sweep();
        }
        assert_eq!(store.changes(), ["+silent", "-silent", "+alive"], "{ttl}");
        assert_eq!(store.pings("alive", "1"), Ok(false));
    }
}

#[tokio::test(start_paused = true)]
async fn repeated_stalls_hold_a_departure_once() {
    for pause in [1.6, 2.4, 5.5, 7.0, 20.0] {
        let store = store(6.0, 2.5);
        store.connects("silent", "1");
        let began = store.now();
        // The deadline, the end of the outage that held it, and its interval with the margin.
        let latest = began.plus(seconds(6.0 + pause + 3.0));
        while store.now() < latest {
            assert!(store.pings("alive", "1").is_ok());
            store.stall(pause).await;
        }
        assert!(store.pings("alive", "1").is_ok());
        store.sweep();
        assert_eq!(store.changes(), ["+silent", "+alive", "-silent"], "{pause}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_stall_users_that_ping_stay_announced_and_the_others_depart_once() {
    let store = store(6.0, 2.5);
    for name in ["alive", "silent"] {
        store.connects(name, "1");
    }
    store.stall(30.0).await;
    for _ in 0..2 {
        assert_eq!((store.count(), store.changes().len()), (0, 2));
        store.sweep();
    }
    store.pass(1.0).await;
    assert_eq!(store.pings("alive", "1"), Ok(false));
    assert_eq!(
        store.online_among(&[user("alive"), user("silent")]),
        [true, false]
    );
    assert_eq!(store.count(), 1);
    store.pass(1.9).await;
    assert_eq!(store.changes().len(), 2);
    store.pass(0.3).await;
    assert_eq!(store.changes(), ["+alive", "+silent", "-silent"]);
    assert!(
        store.age_of_last_seen("silent") > seconds(33.0),
        "when it pinged"
    );
    store.pass(4.0).await;
    assert_eq!(store.changes().last().map(String::as_str), Some("-alive"));
}

/// The bound is two waits of three seconds.
#[tokio::test(start_paused = true)]
async fn a_second_stall_prolongs_a_hold_within_a_bound() {
    for (stall, prolonged_by) in [(1.0, 1.0), (4.0, 3.0)] {
        let store = store(6.0, 2.5);
        for name in ["alive", "silent"] {
            store.connects(name, "1");
        }
        store.stall(30.0).await;
        store.pass(1.6).await;
        store.stall(stall).await;
        store.sweep();
        assert_eq!(store.pings("alive", "1"), Ok(false));
        store.pass(3.0 + prolonged_by - 1.6 - stall - 0.2).await;
        assert_eq!(store.changes().len(), 2, "{stall}");
        store.pass(0.4).await;
        assert_eq!(store.changes(), ["+alive", "+silent", "-silent"], "{stall}");
    }
}

/// The hold of the closed connection ended after the last sweep, so the outage that began with that sweep prolongs it.
#[tokio::test(start_paused = true)]
async fn an_outage_prolongs_a_hold_that_ended_after_the_last_sweep() {
    for is_another_closed in [false, true] {
        let store = store(60.0, 25.0);
        for id in ["silent", "alive"] {
            store.connects("alice", id);
        }
        store.stall(70.0).await;
        store.sweep();
        assert_eq!(store.pings("alice", "alive"), Ok(false));
        store.pass(29.9).await;
        advance(seconds(0.15)).await;
        if is_another_closed {
            store.closes("alice", "unknown");
        }
        advance(seconds(9.95)).await;
        assert_eq!(store.closes("alice", "alive"), (false, false));
        assert_eq!(store.changes(), ["+alice"], "{is_another_closed}");
    }
}

/// The first stall leaves 45 of 60 seconds before the deadline, and the hold is 30 seconds.
#[tokio::test(start_paused = true)]
async fn a_stall_that_left_time_to_ping_does_not_shorten_the_hold_after_the_next_one() {
    for second in [45.0, 100.0] {
        let store = store(60.0, 25.0);
        for name in ["alive", "silent"] {
            store.connects(name, "1");
        }
        store.pass(5.0).await;
        store.stall(10.0).await;
        store.pass(9.0).await;
        store.stall(second).await;
        store.pass(29.0).await;
        assert_eq!(store.changes().len(), 2, "{second}");
        assert_eq!(store.pings("alive", "1"), Ok(false));
        store.pass(1.5).await;
        assert_eq!(
            store.changes(),
            ["+alive", "+silent", "-silent"],
            "{second}"
        );
    }
}

/// The deadline is after 3 seconds, and the hold is 2.5 seconds. The second stall ends before or after both together.
#[tokio::test(start_paused = true)]
async fn a_stall_before_the_deadline_does_not_shorten_the_hold_after_the_stall_of_the_deadline() {
    for second in [0.8, 5.5] {
        let store = store(3.0, 2.0);
        for name in ["alive", "silent"] {
            store.connects(name, "1");
        }
        store.stall(1.0).await;
        store.pass(1.6).await;
        store.stall(second).await;
        store.pass(2.2).await;
        assert_eq!(store.changes().len(), 2, "{second}");
        assert_eq!(store.pings("alive", "1"), Ok(false));
        store.pass(0.5).await;
        assert_eq!(
            store.changes(),
            ["+alive", "+silent", "-silent"],
            "{second}"
        );
    }
}

/// Between the stalls, such a process runs for less than 1.5 seconds.
#[tokio::test(start_paused = true)]
async fn the_stalls_of_a_throttled_process_end_a_hold_one_hold_after_the_deadline() {
    for (second, left) in [(2.5, 1.9), (4.6, 0.0)] {
        let store = store(3.0, 2.0);
        store.connects("silent", "1");
        store.stall(1.0).await;
        store.pass(0.1).await;
        store.stall(second).await;
        if left > 0.0 {
            store.pass(left - 0.2).await;
            assert_eq!(store.changes(), ["+silent"], "{second}");
            store.pass(0.3).await;
        }
        store.sweep();
        assert_eq!(store.changes(), ["+silent", "-silent"], "{second}");
    }
}
