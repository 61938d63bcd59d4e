use std::time::Duration;

use tokio::time::{Instant, advance};

use super::*;

mod groups;
mod late_pings;
mod stalls;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn store(ttl: f64, ping_interval: f64) -> MemoryStore {
    MemoryStore::new(Lifetimes {
        ttl: seconds(ttl),
        ping_interval: seconds(ping_interval),
        group_members: 10,
        user_connections: 3,
        history: 3_000 * SECOND,
        history_bytes: 1 << 20,
        last_seen: 3_000 * SECOND,
    })
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("an id")
}

fn connection(name: &str) -> ConnectionId {
    ConnectionId::new(name).expect("an id")
}

fn unnamed() -> ConnectionId {
    ConnectionId::unnamed()
}

impl MemoryStore {
    fn connects(&self, name: &str, id: &str) -> bool {
        let connected = self.connect(&user(name), &connection(id), &Stated::default());
        connected.expect("no refusal").became_online
    }

    fn connects_for(&self, name: &str, id: &str, ttl: f64, ping_interval: f64) {
        let grant = Grant::of(seconds(ttl), seconds(ping_interval));
        let connected = self.connect_with(grant, &user(name), &connection(id), &Stated::default());
        connected.expect("no refusal");
    }

    fn pings(&self, name: &str, id: &str) -> Result<bool, Refusal> {
        let connected = self.ping(&user(name), &connection(id), &Stated::default());
        connected.map(|connected| connected.became_online)
    }

    /// Closes a connection. Returns whether the user stays online, and whether the disconnect took the user offline.
    fn closes(&self, name: &str, id: &str) -> (bool, bool) {
        let left = self.disconnect(&user(name), &Closing::One(connection(id)));
        (left.online, left.became_offline)
    }

    /// Lets time pass while sweeps run.
    async fn pass(&self, duration: f64) {
        let end = Instant::now() + seconds(duration);
        while Instant::now() < end {
            advance(Duration::from_millis(50)).await;
            self.sweep();
        }
    }

    /// Lets time pass without sweeps.
    async fn stall(&self, duration: f64) {
        self.sweep();
        advance(seconds(duration)).await;
    }

    /// The events since the start, such as `+alice` and `-alice`.
    fn changes(&self) -> Vec<String> {
        let history = self.history(Position::START, usize::MAX);
        let events = history.entries.iter().filter_map(Entry::event);
        let changes = events.map(|event| match &event.change {
            UserChange::Online { .. } => format!("+{}", event.user),
            UserChange::Updated { .. } => format!("~{}", event.user),
            UserChange::Offline { .. } => format!("-{}", event.user),
        });
        changes.collect()
    }

    fn age_of_last_seen(&self, name: &str) -> Duration {
        let seen = self.user(&user(name)).last_seen_at.expect("a time");
        self.now().since(seen)
    }
}

#[tokio::test(start_paused = true)]
async fn each_connection_is_held_for_its_own_interval() {
    let store = store(6.0, 2.5);
    store.connects_for("quick", "1", 3.0, 1.0);
    store.connects_for("slow", "1", 30.0, 20.0);
    store.connects_for("both", "a", 30.0, 20.0);
    store.connects_for("both", "b", 31.0, 1.0);
    store.stall(40.0).await;
    store.pass(1.0).await;
    assert_eq!(store.changes().len(), 3);
    store.pass(1.0).await;
    assert_eq!(store.changes()[3..], ["-quick"]);
    store.pass(21.0).await;
    assert_eq!(store.changes().len(), 4);
    store.pass(2.0).await;
    let mut left = store.changes().split_off(4);
    left.sort();
    assert_eq!(left, ["-both", "-slow"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_grant_decides() {
    let store = store(3.0, 1.0);
    store.connects_for("alice", "1", 600.0, 100.0);
    store.pass(10.0).await;
    assert_eq!(store.pings("alice", "1"), Ok(false));
    store.pass(3.1).await;
    assert_eq!(store.changes(), ["+alice", "-alice"]);
    assert!(store.age_of_last_seen("alice") < seconds(3.2));
}

#[tokio::test(start_paused = true)]
async fn last_seen_is_the_deadline_minus_the_granted_ttl() {
    let store = store(5.0, 1.0);
    store.connects_for("alice", "long", 600.0, 100.0);
    store.pass(100.0).await;
    assert_eq!(store.pings("alice", "short"), Ok(false));
    assert_eq!(store.age_of_last_seen("alice"), Duration::ZERO);
    store.pass(20.0).await;
    assert_eq!(store.age_of_last_seen("alice"), seconds(20.0));
    // The new connection takes the place of a connection that has ended.
    assert_eq!(store.pings("alice", "other"), Ok(false));
    store.pass(600.0).await;
    assert_eq!(store.changes(), ["+alice", "-alice"]);
    assert!(store.age_of_last_seen("alice") >= seconds(600.0));
}

#[tokio::test(start_paused = true)]
async fn closing_a_connection_announces_no_departure_while_another_is_held() {
    for swept in [false, true] {
        let store = store(2.0, 1.0);
        for id in ["phone", "laptop"] {
            store.connects("alice", id);
        }
        store.stall(10.0).await;
        if swept {
            store.sweep();
        }
        assert_eq!(store.closes("alice", "laptop"), (false, false));
        assert_eq!(store.count(), 0);
        store.pass(0.5).await;
        assert_eq!(store.pings("alice", "phone"), Ok(false));
        assert_eq!(store.count(), 1);
        assert_eq!(store.changes(), ["+alice"]);
        assert_eq!(store.closes("alice", "phone"), (false, true));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_the_last_connection_of_a_held_user_announces_it() {
    let store = store(2.0, 1.0);
    for name in ["alice", "bob"] {
        store.connects(name, "1");
        store.connects(name, "2");
    }
    store.stall(10.0).await;
    store.sweep();
    assert_eq!(store.closes("alice", "1"), (false, false));
    assert_eq!(store.closes("alice", "2"), (false, true));
    let left = store.disconnect(&user("bob"), &Closing::All);
    assert!(left.became_offline && !left.online);
    store.pass(5.0).await;
    assert_eq!(store.changes(), ["+alice", "+bob", "-alice", "-bob"]);
}

#[tokio::test(start_paused = true)]
async fn a_connect_beyond_the_maximum_of_live_connections_is_refused() {
    let store = store(3.0, 1.0);
    let refused = Err(Refusal::TooManyConnections { most: 3 });
    for id in ["1", "2", "3"] {
        store.connects("alice", id);
    }
    assert_eq!(store.pings("alice", "4"), refused);
    let fourth = connection("4");
    let fourth_refused = store.connect(&user("alice"), &fourth, &Stated::default());
    assert!(fourth_refused.is_err());
    assert_eq!(store.pings("alice", "3"), Ok(false));
    store.closes("alice", "1");
    assert!(!store.connects("alice", "4"));
    store.stall(30.0).await;
    // Held connections make room for connections that are alive.
    for id in ["5", "6", "7"] {
        assert!(!store.connects("alice", id));
    }
    assert_eq!(store.pings("alice", "4"), refused);
    assert_eq!(store.user(&user("alice")).connections.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn departed_guests_take_bounded_memory() {
    let store = store(60.0, 25.0);
    for number in 0..50_000 {
        let guest = user(&format!("guest-{number}"));
        let connected = store.connect(&guest, &unnamed(), &Stated::default());
        connected.expect("no refusal");
        store.disconnect(&guest, &Closing::All);
    }
    let kept = store.changes().len() as u64;
    assert!((5_000..(1 << 20) / 80).contains(&kept), "{kept} events");
    store.pass(3_001.0).await;
    let state = store.state.lock();
    assert!(state.closed.is_empty() && state.last_seen.is_empty());
    assert_eq!(state.events.after(Position::START).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_before_an_expiry_holds_the_departure_although_another_connection_was_closed() {
    let store = store(2.0, 1.0);
    store.connects("alice", "phone");
    store.pass(1.0).await;
    store.connects("alice", "laptop");
    store.connects("alice", "tablet");
    store.pass(0.9).await;
    advance(seconds(0.2)).await;
    // The phone has expired, and the outage is not recorded yet.
    assert_eq!(store.closes("alice", "tablet"), (true, false));
    advance(seconds(5.0)).await;
    assert_eq!(store.closes("alice", "laptop"), (false, false));
    assert_eq!(store.pings("alice", "phone"), Ok(false));
    assert_eq!(store.changes(), ["+alice"]);
}
