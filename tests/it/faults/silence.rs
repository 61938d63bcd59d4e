//! A thousand users who fall silent at about the same time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::crowd;
use crate::cluster::Cluster;
use crate::instance::Settings;
use crate::sse::Stream;
use crate::timestamp::Timestamp;

/// How long after its deadline a departure is announced, for 99 of 100.
const PROMISE_MS: i64 = 250;

#[tokio::test]
async fn each_of_a_thousand_silent_users_is_announced_once_and_in_time() {
    let settings = Settings::mortal().with("PRESENCE_TTL", "5s");
    let cluster = Cluster::of(3, settings).await;
    let clients = cluster.clients();
    let users = crowd("user", 1_000);
    let mut streams = Vec::new();
    for client in &clients {
        streams.push(Stream::open(client, "").await);
    }
    let connected = clients[0].connect_each(&users).await;
    let mut deadlines = BTreeMap::new();
    for alive in connected {
        deadlines.insert(alive.user_id, alive.expires_at);
    }
    // Half of them are pinged once more, at another instance.
    for user in users.iter().step_by(2) {
        deadlines.insert(user.clone(), clients[1].ping(user).await.expires_at);
    }
    let last = deadlines.values().max().expect("a thousand");
    last.plus(Duration::from_secs(1)).pass().await;
    for (number, stream) in streams.iter_mut().enumerate() {
        let marker = format!("marker-{number}");
        let events = stream.events_before_now(&clients[number], &marker).await;
        let gone = events.iter().filter(|event| event.name == "user.offline");
        let mut announced: BTreeMap<String, Timestamp> = BTreeMap::new();
        for event in gone {
            assert_eq!(event.reason(), "expired");
            let first = announced.insert(event.user(), event.timestamp());
            assert!(first.is_none(), "{event:?} came twice");
        }
        let mut lateness: Vec<i64> = users
            .iter()
            .map(|user| announced[user].millis_after(deadlines[user]))
            .collect();
        lateness.sort_unstable();
        // An answer to a ping names the deadline to within the clocks' agreement.
        assert!(lateness[0] >= -20, "announced while alive: {lateness:?}");
        assert!(lateness[989] <= PROMISE_MS, "p99: {lateness:?}");
    }
}
