use std::time::Duration;

use tokio::task::JoinSet;

use super::*;
use crate::config::KeyspaceEvents;
use crate::model::{MoveRole, Partitions};
use crate::store::redis::connection::Endpoint;
use crate::store::redis::node::NodeSettings;
use crate::store::redis::node::load_shedder::MAX_WAITING;
use crate::store::redis::routing::topology::Topology;

/// A batcher whose server is never connected.
fn pings() -> Arc<PingBatcher> {
    let url = "redis://127.0.0.1:1".parse().expect("an address");
    let endpoint = Endpoint::new(&url, None).expect("an endpoint");
    let layout = Arc::new(Layout::new("presence:", Partitions::ONE, MoveRole::Only));
    let settings = NodeSettings {
        bus: [layout.keys(Partition::FIRST).bus.clone()].into(),
        layout: Arc::clone(&layout),
        keyspace_events: KeyspaceEvents::Off,
        refresh: Arc::default(),
        pulse: Arc::default(),
    };
    let topology = Topology::new(endpoint, Partitions::ONE, settings, 1);
    let lanes = Arc::new(Lanes::new(&Arc::new(topology)));
    let (scripts, grant) = (Arc::new(Scripts::new()), Arc::default());
    let lifetimes = Lifetimes {
        ttl: Duration::from_secs(60),
        ping_interval: Duration::from_secs(25),
        group_members: 10,
        user_connections: 100,
        history: Duration::ZERO,
        history_bytes: 0,
        last_seen: Duration::ZERO,
    };
    Arc::new(PingBatcher::new(
        &lanes,
        (&layout, Partition::FIRST),
        &scripts,
        &grant,
        &lifetimes,
    ))
}

fn join(pings: &PingBatcher, batch: &mut Batch, user: &str, connection: &str, stated: &Stated) {
    let user = UserId::new(user).expect("an id");
    let connection = ConnectionId::new(connection).expect("an id");
    batch.push(
        pings.keys(),
        &user,
        (&connection, stated),
        oneshot::channel().0,
    );
}

// The clock is paused until all calls have arrived, because a silent store admits fewer.
#[tokio::test(start_paused = true)]
async fn pings_beyond_the_maximum_are_refused() {
    let pings = pings();
    let mut calls = JoinSet::new();
    for _ in 0..MAX_WAITING + 100 {
        let pings = Arc::clone(&pings);
        calls.spawn(async move {
            let user = UserId::new("alice").expect("an id");
            let unnamed = ConnectionId::unnamed();
            pings.extend(&user, &unnamed, &Stated::default()).await
        });
    }
    let answers = calls.join_all().await;
    let refused = |answer: &Result<_, _>| matches!(answer, Err(StoreError::Overloaded));
    let refused = answers.iter().filter(|answer| refused(answer)).count();
    assert_eq!(refused, 100);
    assert!(answers.iter().all(Result::is_err), "there is no server");
}

/// The arguments of commands, without their lengths.
fn arguments(commands: &Pipeline) -> Vec<String> {
    let packed = String::from_utf8(commands.get_packed_pipeline()).expect("text");
    let lines = packed.lines().filter(|line| !line.starts_with(['$', '*']));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn each_key_is_sent_once_and_in_order() {
    let pings = pings();
    let mut batch = Batch::default();
    for user in 0..SCRIPT_PINGS + 2 {
        let user = format!("user-{user}");
        join(&pings, &mut batch, &user, "1", &Stated::default());
    }
    let arguments = arguments(&pings.commands(&batch.arguments(), SCRIPT_PINGS));
    let sent = arguments
        .iter()
        .filter(|argument| argument.starts_with("presence:user:user"));
    let asked = (0..SCRIPT_PINGS + 2).map(|user| format!("presence:user:user-{user}"));
    assert!(sent.eq(&asked.collect::<Vec<_>>()), "{arguments:?}");
    let calls = arguments.iter().filter(|argument| *argument == "EVALSHA");
    assert_eq!(calls.count(), 2);
}

#[tokio::test]
async fn pings_with_a_ttl_come_first_and_then_others_that_state_something() {
    let pings = pings();
    pings.grant.set(7);
    let mut batch = Batch::default();
    let (usual, ttl) = (Stated::default(), Some(Duration::from_secs(150)));
    let long = Stated {
        ttl,
        ..Stated::default()
    };
    let away = Stated {
        away: true,
        ..Stated::default()
    };
    for (user, connection, stated) in [
        ("a", "1", &usual),
        ("b", "tab", &usual),
        ("c", "1", &usual),
        ("a", "phone", &long),
        ("d", "1", &away),
    ] {
        join(&pings, &mut batch, user, connection, stated);
    }
    let arguments = arguments(&pings.commands(&batch.arguments(), SCRIPT_PINGS));
    let users = ["a", "b", "d", "a", "c"].map(|user| format!("presence:user:{user}"));
    assert_eq!(arguments[2], "5");
    assert_eq!(arguments[3..8], users);
    let others = ["7", "60000", "25000", "presence:user:", "presence:conns:"];
    assert_eq!(arguments[8..13], others);
    assert_eq!(
        arguments[13..],
        ["1", "7 phone 150000", "7 tab", "7 1 away"]
    );
}

#[tokio::test]
async fn each_ping_gets_its_own_answer() {
    let (answers, heard): (Vec<_>, Vec<_>) = (0..4).map(|_| oneshot::channel()).unzip();
    let pings = answers.into_iter().map(|answer| Ping {
        key_end: 0,
        end: 0,
        answer,
    });
    respond_to(pings, Ok(vec![2, 4]));
    let mut extended = Vec::new();
    for heard in heard {
        extended.push(heard.await.expect("told").expect("answered"));
    }
    assert_eq!(extended, [true, false, true, false]);
}
