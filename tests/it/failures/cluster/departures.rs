//! Departures while nodes of a cluster die and freeze, and streams when a master has lost its last events.

use std::time::Duration;

use harness::sse::{Stream, alternating};
use harness::wait::eventually_true;
use tokio::time::sleep;

use super::scene::Scene;
use crate::failures::pingers::Pingers;
use crate::failures::scene::all_ready;

const MORTAL: [(&str, &str); 2] = [("PRESENCE_TTL", "3s"), ("PRESENCE_PING_INTERVAL", "1s")];

/// Users that ping and users that do not, of every master, and a stream about all.
struct Mortals {
    scene: Scene,
    stream: Stream,
    living: Vec<String>,
    silent: Vec<String>,
    pingers: Pingers,
}

impl Mortals {
    async fn start() -> Self {
        let scene = Scene::with(&MORTAL).await;
        let (mut living, mut silent) = (Vec::new(), Vec::new());
        for mut users in scene.users_of_masters(60).await.into_values() {
            silent.extend(users.drain(4..8));
            living.extend(users.drain(..4));
        }
        let stream = Stream::open(&scene.client, "").await;
        scene.client.connect_each(&living).await;
        let pingers = Pingers::start(&living, std::slice::from_ref(&scene.client));
        scene.client.connect_each(&silent).await;
        Self {
            scene,
            stream,
            living,
            silent,
            pingers,
        }
    }

    /// Waits until the silent users have left, and checks that each left once and no other user left.
    async fn end(mut self) {
        let count = self.living.len() + 2 * self.silent.len();
        let mut events = self.stream.changes(count).await;
        // Longer than a hold of departures.
        sleep(Duration::from_secs(3)).await;
        let tally = self.pingers.stop().await;
        assert!(tally.answered > 0, "{tally:?}");
        events.extend(self.stream.unread());
        let histories = alternating(&events);
        for user in &self.living {
            assert_eq!(histories[user], ["online"], "{user}");
        }
        for user in &self.silent {
            assert_eq!(histories[user], ["online", "expired"], "{user}");
        }
        assert!(!self.stream.raw().contains("presence.reset"));
    }
}

#[tokio::test]
async fn a_dead_master_takes_only_silent_users_offline() {
    let mut mortals = Mortals::start().await;
    mortals.scene.redis.kill(1);
    mortals.scene.redis.failed_over(1).await;
    mortals.end().await;
}

/// The freeze is longer than the TTL, and so short that no replica takes over.
#[tokio::test]
async fn a_frozen_cluster_takes_only_silent_users_offline() {
    let mortals = Mortals::start().await;
    let redis = &mortals.scene.redis;
    (0..6).for_each(|node| redis.freeze(node));
    sleep(Duration::from_secs(5)).await;
    (0..6).for_each(|node| redis.thaw(node));
    redis.agreed().await;
    all_ready(std::slice::from_ref(&mortals.scene.client)).await;
    mortals.end().await;
}

/// The replica that takes over has not received the last event of one partition.
#[tokio::test]
async fn lost_events_reset_the_streams_that_watch_their_partition() {
    let mut scene = Scene::with(&[]).await;
    let client = scene.client.clone();
    let master = scene.redis.master_of(&scene.names, "alice").await;
    let bystander = { scene.users_of_masters(60).await }[&master]
        .iter()
        .find(|user| scene.names.partition_of(user) != scene.names.partition_of("alice"))
        .expect("a user of another partition of the master")
        .clone();
    let alice = scene.names.neighbours("alice", 1).remove(0);
    client.connect("alice").await;
    client.connect(&bystander).await;
    scene.in_sync(master).await;
    let mut everyone = Stream::open(&client, "").await;
    let mut about_alice = Stream::open(&client, "?userIds=alice").await;
    let mut about_another = Stream::open(&client, &format!("?userIds={bystander}")).await;
    let late = async || {
        client.connect(&alice).await;
        assert_eq!(everyone.next().await.brief(), format!("online {alice}"));
    };
    scene.redis.lose_tail(master, late).await;
    for stream in [&mut everyone, &mut about_alice] {
        let reset = stream.next().await;
        assert_eq!(reset.name, "presence.reset", "{reset:?}");
    }
    eventually_true("the users of the master are served", async || {
        super::scene::try_ping(&client, &bystander).await.status == 200
    })
    .await;
    assert!(client.disconnect(&bystander).await.became_offline);
    let told = about_another.next().await;
    assert_eq!(told.brief(), format!("offline {bystander}"), "and no reset");
    assert!(client.connect(&alice).await.became_online, "it was lost");
    assert_eq!(everyone.changes(2).await.len(), 2);
}
