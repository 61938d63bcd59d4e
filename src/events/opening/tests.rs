use super::*;
use crate::config::Config;
use crate::events::subscriber::SubscriberOptions;
use crate::memory_budget::MemoryBudget;
use crate::model::Credential;
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
        snapshot: false,
        closes: (Instant::now() + STORE_PATIENCE, EndReason::MaxAge),
        credential: Some(Arc::new(Withdrawn(withdrawn))),
    };
    hub.open(opening).expect("there is room")
}

fn hub() -> Arc<Hub> {
    let limits = Limits::of(&Config::default(), MemoryBudget::of(1 << 30));
    Arc::new(Hub::new(Arc::new(Metrics::new()), limits))
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
