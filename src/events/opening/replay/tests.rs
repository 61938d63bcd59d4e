//! A model of a client that resumes on two instances, which receive the events of different partitions in different
//! orders.

use std::collections::HashMap as Map;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::config::Config;
use crate::events::hub::join::{CursorOrigin, JoinOutcome, JoinPoint};
use crate::events::hub::kept::Filled;
use crate::events::hub::known::KnownUsers;
use crate::events::limits::Limits;
use crate::events::sse::payload::EndReason;
use crate::events::subscriber::SubscriberOptions;
use crate::memory_budget::MemoryBudget;
use crate::model::{Epoch, Partitions, Position, PresenceEvent, Timestamp, UserChange};
use crate::telemetry::Metrics;

const EPOCH: Epoch = Epoch(1);

fn id(user: u8) -> UserId {
    UserId::new(&format!("user-{user}")).expect("an id")
}

/// One history for each partition. The time of an event is its number.
fn histories(partitions: Partitions, users: &[u8]) -> Vec<Vec<Entry>> {
    let mut histories: Vec<Vec<Entry>> = vec![Vec::new(); partitions.count()];
    for (number, user) in users.iter().enumerate() {
        let history = &mut histories[partitions.of(&id(*user)).index()];
        let previous = history.last().map_or(Position::START, Entry::position);
        // Events of several partitions share a millisecond, and some of one partition do.
        let position = previous.next(Timestamp::from_millis(1_000 + number as u64 / 3));
        history.push(Entry::Event(PresenceEvent {
            position,
            previous,
            user: id(*user),
            at: Timestamp::from_millis(number as u64),
            change: UserChange::Online { state: None },
        }));
    }
    histories
}

/// An instance that receives all histories in an order of its own.
struct Instance {
    hub: Hub,
    order: Vec<(Partition, Entry)>,
    received: usize,
}

impl Instance {
    fn new(
        partitions: Partitions,
        histories: &[Vec<Entry>],
        choices: &[prop::sample::Index],
    ) -> Self {
        let limits = Limits::of(&Config::default(), MemoryBudget::of(1 << 30));
        let hub = Hub::new(Arc::new(Metrics::new()), limits, partitions);
        let begin = partitions.all();
        hub.begin(
            begin
                .map(|each| Filled::until(each, EPOCH, Position::START))
                .collect(),
        );
        let mut rest: Vec<_> = partitions
            .all()
            .zip(histories.iter().map(|history| history.iter()))
            .filter(|(_, history)| history.len() > 0)
            .collect();
        let mut order = Vec::new();
        for choice in choices.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let chosen = choice.index(rest.len());
            let (partition, history) = &mut rest[chosen];
            order.extend(history.next().map(|entry| (*partition, entry.clone())));
            if history.len() == 0 {
                drop(rest.remove(chosen));
            }
        }
        Self {
            hub,
            order,
            received: 0,
        }
    }

    /// Receives up to `count` entries. Returns false if there is none.
    async fn receive(&mut self, count: usize) -> bool {
        let next = self.order.iter().skip(self.received).take(count);
        for (partition, entry) in next.clone() {
            let known = KnownUsers::default();
            let published =
                self.hub
                    .publish(*partition, EPOCH, std::slice::from_ref(entry), &known);
            published.await.expect("no gap");
        }
        self.received += next.clone().count();
        next.count() > 0
    }
}

/// One stream of the client.
#[derive(Clone, Debug)]
struct Leg {
    instance: usize,
    received_before: usize,
    received_after: usize,
    /// After how many messages the stream is cut.
    cut: usize,
    /// Whether the missed events are replayed, even if they are few.
    replays: bool,
}

fn leg() -> impl Strategy<Value = Leg> {
    (
        0..2_usize,
        0..12_usize,
        0..12_usize,
        0..20_usize,
        any::<bool>(),
    )
        .prop_map(
            |(instance, received_before, received_after, cut, replays)| Leg {
                instance,
                received_before,
                received_after,
                cut,
                replays,
            },
        )
}

/// What a client has received.
struct Client {
    interest: Interest,
    cursor: Cursor,
    /// The user and the time of each event.
    events: Vec<(String, u64)>,
}

impl Client {
    /// Opens a stream and receives until it is cut.
    async fn follow(&mut self, instance: &mut Instance, leg: &Leg) {
        instance.receive(leg.received_before).await;
        let partitions = instance.hub.partitions();
        let watched = self.interest.watched(partitions);
        let options = SubscriberOptions {
            interest: self.interest.clone(),
            since: 0,
            snapshot: false,
            closes: (Instant::now() + Duration::from_secs(60), EndReason::MaxAge),
            credential: None,
        };
        let subscriber = instance.hub.open(options).expect("a stream");
        let mut text = String::new();
        let mut point = JoinPoint::After(self.cursor.clone(), CursorOrigin::Client);
        if leg.replays {
            let missed = loop {
                match instance.hub.missed_after(&self.cursor, &watched) {
                    Ok(missed) => break missed,
                    Err(_) => assert!(instance.receive(1).await, "the cursor is lost"),
                }
            };
            let stream = Behind {
                hub: &instance.hub,
                subscriber: &subscriber,
                watched: &watched,
            };
            let replayer = Replayer::default();
            let replay = replayer.replay(stream, missed, Some(&self.cursor));
            let taking = async {
                loop {
                    take(&subscriber, &mut text);
                    yield_now().await;
                }
            };
            let reached = tokio::select! {
                reached = replay => reached,
                () = taking => unreachable!("it takes without end"),
            };
            point = JoinPoint::From(reached.expect("nothing is evicted"));
        }
        loop {
            match instance
                .hub
                .join(&subscriber, &point, &watched, |_| Timestamp::default())
            {
                JoinOutcome::Live => break,
                JoinOutcome::Ahead => assert!(instance.receive(1).await, "the cursor is lost"),
                outcome => panic!("{outcome:?}"),
            }
        }
        instance.receive(leg.received_after).await;
        take(&subscriber, &mut text);
        let messages = text
            .split("\n\n")
            .filter(|message| message.contains("event: "));
        for message in messages.take(leg.cut) {
            self.take(message, partitions);
        }
        instance.hub.remove(&subscriber);
    }

    fn take(&mut self, message: &str, partitions: Partitions) {
        let field = |name: &str| {
            let lines = message.lines();
            let mut values = lines.filter_map(|line| line.strip_prefix(name));
            values.next().unwrap_or_default().to_owned()
        };
        self.cursor = Cursor::parse(&field("id: "), partitions).expect("a cursor");
        if field("event: ") == "user.online" {
            let data: serde_json::Value = serde_json::from_str(&field("data: ")).expect("JSON");
            let user = data["userId"].as_str().expect("a user").to_owned();
            let at: humantime::Timestamp = data["timestamp"]
                .as_str()
                .and_then(|at| at.parse().ok())
                .expect("a time");
            let at = std::time::SystemTime::from(at).duration_since(std::time::UNIX_EPOCH);
            self.events
                .push((user, at.expect("a time").as_millis() as u64));
        }
    }
}

/// Takes what a stream has queued.
fn take(subscriber: &Subscriber, text: &mut String) {
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = subscriber.poll_next(&mut context) {
        text.push_str(&String::from_utf8_lossy(&frame.data()));
    }
}

async fn every_event_comes_once_and_in_order(
    partitions: Partitions,
    users: &[u8],
    watched: Option<Vec<u8>>,
    choices: [Vec<prop::sample::Index>; 2],
    mut legs: Vec<Leg>,
) {
    let histories = histories(partitions, users);
    let mut instances = choices.map(|choices| Instance::new(partitions, &histories, &choices));
    let interest = match &watched {
        Some(watched) => Interest::users(watched.iter().map(|user| id(*user)).collect()),
        None => Interest::AllUsers,
    };
    let mut client = Client {
        interest,
        cursor: instances[0].hub.cursor(),
        events: Vec::new(),
    };
    legs.push(Leg {
        instance: 0,
        received_before: users.len(),
        received_after: 0,
        cut: usize::MAX,
        replays: false,
    });
    for leg in &legs {
        client.follow(&mut instances[leg.instance], leg).await;
    }
    let of_partition = |events: Vec<(String, u64)>| {
        let mut by_partition: Map<usize, Vec<_>> = Map::new();
        for (user, at) in events {
            let partition = partitions.of(&UserId::new(&user).expect("an id"));
            by_partition
                .entry(partition.index())
                .or_default()
                .push((user, at));
        }
        by_partition
    };
    let expected = users.iter().enumerate().filter(|(_, user)| {
        watched
            .as_ref()
            .is_none_or(|watched| watched.contains(user))
    });
    let expected = expected.map(|(at, user)| (id(*user).to_string(), at as u64));
    assert_eq!(
        of_partition(client.events),
        of_partition(expected.collect())
    );
}

proptest! {
    #[test]
    fn a_client_that_changes_between_instances_receives_every_event_once_and_in_order(
        partitions in prop::sample::select(vec![1, 16, 64]),
        users in vec(0_u8..8, 0..60),
        watched in prop::option::of(vec(0_u8..8, 1..4)),
        choices in [vec(any::<prop::sample::Index>(), 60), vec(any::<prop::sample::Index>(), 60)],
        legs in vec(leg(), 0..8),
    ) {
        let partitions = Partitions::new(partitions).expect("a number of partitions");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let followed = every_event_comes_once_and_in_order(partitions, &users, watched, choices, legs);
        runtime.expect("a runtime").block_on(followed);
    }
}
