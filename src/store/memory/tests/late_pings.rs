//! Pings of connections that were closed a moment ago.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_ping_of_a_closed_connection_is_refused_for_ten_seconds() {
    let store = store(60.0, 25.0);
    let closed = Err(Refusal::ConnectionClosed);
    store.connects("alice", "1");
    store.connects("alice", "2");
    store.closes("alice", "2");
    assert_eq!(store.pings("alice", "2"), closed);
    store.closes("alice", "1");
    assert_eq!(store.pings("alice", "1"), closed);
    assert_eq!(store.pings("alice", "3"), Ok(true));
    assert!(!store.connects("alice", "1"));
    assert_eq!(store.pings("alice", "1"), Ok(false));
    store.pass(9.9).await;
    assert_eq!(store.pings("alice", "2"), closed);
    store.pass(0.1).await;
    assert_eq!(store.pings("alice", "2"), Ok(false));
}

#[tokio::test(start_paused = true)]
async fn after_all_were_closed_a_connection_must_connect_before_it_pings() {
    let store = store(60.0, 25.0);
    let closed = Err(Refusal::ConnectionClosed);
    for _ in 0..2 {
        store.disconnect(&user("alice"), &Closing::All);
        assert_eq!(store.pings("alice", "1"), closed);
        assert_eq!(store.pings("alice", "never-open"), closed);
        assert!(store.connects("alice", "1"));
        assert_eq!(store.pings("alice", "1"), Ok(false));
        assert_eq!(store.pings("alice", "2"), closed);
    }
    store.pass(10.0).await;
    assert_eq!(store.pings("alice", "2"), Ok(false));
    store.pass(20.0).await;
    assert!(store.state.lock().closed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_not_open_may_ping_after_a_disconnect() {
    let store = store(3.0, 1.0);
    store.closes("alice", "1");
    assert_eq!(store.pings("alice", "1"), Ok(true));
    store.pass(3.1).await;
    store.closes("alice", "1");
    assert_eq!(store.pings("alice", "1"), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_refused_connect_does_not_open_a_closed_connection() {
    let store = store(3.0, 1.0);
    for id in ["1", "2", "3"] {
        store.connects("alice", id);
    }
    store.closes("alice", "1");
    store.connects("alice", "4");
    let refused = store.connect(&user("alice"), &unnamed(), &Stated::default());
    assert!(refused.is_err());
    store.closes("alice", "4");
    assert_eq!(store.pings("alice", "1"), Err(Refusal::ConnectionClosed));
}

#[tokio::test(start_paused = true)]
async fn closed_connections_beyond_the_maximum_may_ping() {
    let store = store(60.0, 25.0);
    let guest = |number: usize| format!("guest-{number}");
    for number in 0..300_000 {
        let guest = user(&guest(number));
        let connected = store.connect(&guest, &unnamed(), &Stated::default());
        connected.expect("no refusal");
        store.disconnect(&guest, &Closing::One(unnamed()));
        if number % 100_000 == 0 {
            store.pass(1.0).await;
        }
    }
    assert_eq!(store.pings(&guest(1_000), "1"), Ok(true));
    assert_eq!(
        store.pings(&guest(299_999), "1"),
        Err(Refusal::ConnectionClosed)
    );
}
