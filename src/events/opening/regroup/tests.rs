use std::future::poll_fn;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::config::Config;
use crate::events::hub::Hub;
use crate::events::limits::Limits;
use crate::events::sse::payload::EndReason;
use crate::events::stream::EventStream;
use crate::events::subscriber::SubscriberOptions;
use crate::events::{Bus, Doorbell, StreamService};
use crate::memory_budget::MemoryBudget;
use crate::model::{Partition, Partitions};
use crate::store::Store;
use crate::telemetry::Metrics;

/// How long a test waits for a message.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An instance with a store in memory, without its server.
struct Instance {
    store: Arc<Store>,
    hub: Arc<Hub>,
    streams: Arc<StreamService>,
}

impl Instance {
    fn start() -> Self {
        let config = Config::default();
        let limits = Limits::of(&config, MemoryBudget::of(1 << 30));
        let metrics = Arc::new(Metrics::new());
        let store = Arc::new(Store::open(&config).expect("a store in memory"));
        let hub = Arc::new(Hub::new(Arc::clone(&metrics), limits, Partitions::ONE));
        let streams = StreamService::new(Arc::clone(&store), Arc::clone(&hub), &config, limits);
        let streams = Arc::new(streams);
        let bus = Bus::new(
            Arc::clone(&store),
            Arc::clone(&hub),
            Arc::clone(&streams),
            Arc::new(Doorbell::default()),
            metrics,
        );
        tokio::spawn(bus.run());
        Self {
            store,
            hub,
            streams,
        }
    }

    /// Changes the members of a group, and waits until the bus has received the event.
    async fn change_group(&self, group: &GroupId, add: &[UserId], remove: &[UserId]) {
        let changed = self.store.change_group(group, add, remove).await;
        changed.expect("a change that is accepted");
        let newest = self.store.newest_of(Partition::FIRST).await;
        let newest = newest.expect("an embedded store");
        let received = self
            .hub
            .wait_until(|hub| hub.newest(Partition::FIRST) == Some(newest));
        timeout(TIMEOUT, received).await.expect("the event");
    }
}

/// Returns what the client of a stream received up to the first `presence.ready`.
async fn until_ready(stream: &EventStream) -> String {
    let mut body = String::new();
    while !body.contains("presence.ready") {
        let frame = timeout(TIMEOUT, poll_fn(|context| stream.poll_next(context)));
        let Ok(Some(frame)) = frame.await else {
            panic!("the stream does not become ready: {body}");
        };
        body.push_str(&String::from_utf8_lossy(&frame.data()));
    }
    body
}

#[tokio::test]
async fn a_snapshot_has_no_group_that_the_user_left_after_the_groups_were_read() {
    let instance = Instance::start();
    let opener = instance.streams.opener();
    let user = UserId::new("alice").expect("an id");
    let groups = ["left", "kept"].map(|id| GroupId::new(id).expect("an id"));
    for group in &groups {
        let alice = std::slice::from_ref(&user);
        instance.change_group(group, alice, &[]).await;
    }
    let (interest, since) = opener.own_interest(&user).await.expect("the groups");
    let held = opener.copy_filler().hold(&groups).await.expect("room");
    instance.change_group(&groups[0], &[], &[user]).await;
    let options = SubscriberOptions {
        interest,
        since,
        snapshot: true,
        closes: (Instant::now() + TIMEOUT, EndReason::MaxAge),
        credential: None,
    };
    let subscriber = instance.hub.open(options).expect("a stream");
    drop(held);
    let stream = EventStream::new(Arc::clone(&subscriber), Arc::clone(&instance.hub), None);
    opener.begin(&subscriber, StreamStart::WithSnapshot, Instant::now());
    let received = until_ready(&stream).await;
    assert!(received.contains("\"kept\""), "{received}");
    let left = received.contains("group.left") || !received.contains("\"left\"");
    assert!(left, "{received}");
}
