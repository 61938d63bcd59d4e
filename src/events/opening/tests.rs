use super::retry::STORE_TIMEOUT;
use super::*;
use crate::config::Config;
use crate::events::hub::kept::Filled;
use crate::events::hub::known::KnownUsers;
use crate::events::subscriber::SubscriberOptions;
use crate::memory_budget::MemoryBudget;
use crate::model::Credential;
use crate::model::{
    Entry, Epoch, Partition, Partitions, Position, PresenceEvent, Timestamp, UserChange, UserId,
};
use crate::telemetry::Metrics;

#[derive(Debug)]
struct Withdrawn(bool);

impl Credential for Withdrawn {
    fn is_withdrawn(&self) -> bool {
        self.0
    }
}

fn opened(hub: &Hub, withdrawn: bool) -> Arc<Subscriber> {
    let opening = SubscriberOptions {
        interest: Interest::AllUsers,
        since: 0,
        snapshot: false,
        closes: (Instant::now() + STORE_TIMEOUT, EndReason::MaxAge),
        credential: Some(Arc::new(Withdrawn(withdrawn))),
    };
    hub.open(opening).expect("a stream")
}

fn hub() -> Arc<Hub> {
    let limits = Limits::of(&Config::default(), MemoryBudget::of(1 << 30));
    Arc::new(Hub::new(Arc::new(Metrics::new()), limits, Partitions::ONE))
}

#[tokio::test]
async fn a_stream_ends_if_its_opening_panics() {
    let hub = hub();
    for panics in [false, true] {
        let subscriber = opened(&hub, false);
        let mut beginning = OpeningGuard {
            hub: Arc::clone(&hub),
            subscriber: Arc::clone(&subscriber),
            is_done: false,
        };
        let opening = tokio::spawn(async move {
            assert!(!panics, "the test panics");
            beginning.done();
        });
        assert_eq!(opening.await.is_err(), panics);
        assert_eq!(subscriber.has_ended(), panics);
    }
}

#[test]
fn only_the_streams_of_a_withdrawn_credential_end() {
    let hub = hub();
    let streams = [false, true, false].map(|withdrawn| opened(&hub, withdrawn));
    hub.end_withdrawn();
    let ended = streams.map(|subscriber| subscriber.has_ended());
    assert_eq!(ended, [false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_replay_exceeds_the_queue_memory_is_cut_off_and_removed() {
    let metrics = Arc::new(Metrics::new());
    let mut limits = Limits::of(&Config::default(), MemoryBudget::of(1 << 30));
    limits.queue_bytes = 0;
    let hub = Hub::new(Arc::clone(&metrics), limits, Partitions::ONE);
    let (epoch, user) = (Epoch(1), UserId::new("alice").expect("an id"));
    let start = Filled::until(Partition::FIRST, epoch, Position::START);
    hub.begin(vec![start]);
    let position = |millis| Position {
        millis,
        sequence: 0,
    };
    let entries = (1..500).map(|millis| {
        Entry::Event(PresenceEvent {
            position: position(millis),
            previous: position(millis - 1),
            user: user.clone(),
            at: Timestamp::from_millis(millis),
            change: UserChange::Online { state: None },
        })
    });
    let entries: Vec<_> = entries.collect();
    let published = hub
        .publish(Partition::FIRST, epoch, &entries, &KnownUsers::default())
        .await;
    published.expect("no gap");
    let options = SubscriberOptions {
        interest: Interest::users(vec![user]),
        since: 0,
        snapshot: false,
        closes: (Instant::now() + STORE_TIMEOUT, EndReason::MaxAge),
        credential: None,
    };
    let subscriber = hub.open(options).expect("a stream");
    let (cursor, watched) = (
        Cursor::one(epoch, Position::START),
        PartitionSet::all(Partitions::ONE),
    );
    let missed = hub.missed_after(&cursor, &watched).expect("in the ring");
    let stream = Behind {
        hub: &hub,
        subscriber: &subscriber,
        watched: &watched,
    };
    let replayer = Replayer::default();
    let replayed = replayer.replay(stream, missed, Some(&cursor)).await;
    assert!(replayed.is_ok() && subscriber.has_ended());
    assert_eq!(metrics.streams_cut_off.get(), 1);
    tokio::time::advance(Duration::from_secs(3)).await;
    hub.tick();
    assert_eq!(metrics.streams.get(), 0);
}
