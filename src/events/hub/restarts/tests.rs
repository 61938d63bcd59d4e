use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::config::Config;
use crate::events::hub::join::{CursorOrigin, JoinOutcome, JoinPoint};
use crate::events::hub::known::KnownUsers;
use crate::events::interest::Interest;
use crate::events::limits::Limits;
use crate::events::sse::payload::EndReason;
use crate::events::subscriber::SubscriberOptions;
use crate::memory_budget::MemoryBudget;
use crate::model::{
    Entry, Epoch, Partitions, Position, PresenceEvent, Timestamp, UserChange, UserId,
};
use crate::telemetry::Metrics;

fn at(millis: u64) -> Position {
    Position {
        millis,
        sequence: 0,
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("an id")
}

/// A hub that knows all of its 16 partitions, without an event.
fn hub() -> Hub {
    let partitions = Partitions::new(16).expect("a number of partitions");
    let limits = Limits::of(&Config::default(), MemoryBudget::of(1 << 30));
    let hub = Hub::new(Arc::new(Metrics::new()), limits, partitions);
    let empty = partitions.all();
    hub.begin(
        empty
            .map(|each| Filled::until(each, Epoch(1), Position::START))
            .collect(),
    );
    hub
}

impl Hub {
    async fn online(&self, name: &str, epoch: u64, previous: u64, millis: u64) {
        let user = user(name);
        let partition = self.partitions.of(&user);
        let event = Entry::Event(PresenceEvent {
            position: at(millis),
            previous: at(previous),
            user,
            at: Timestamp::from_millis(millis),
            change: UserChange::Online { state: None },
        });
        let known = KnownUsers::default();
        let published = self
            .publish(partition, Epoch(epoch), &[event], &known)
            .await;
        published.expect("no gap");
    }

    fn stream(&self, interest: Interest) -> Arc<Subscriber> {
        let options = SubscriberOptions {
            since: 0,
            interest,
            snapshot: false,
            closes: (Instant::now() + Duration::from_secs(60), EndReason::MaxAge),
            credential: None,
        };
        self.open(options).expect("a stream")
    }

    fn joins(&self, subscriber: &Arc<Subscriber>, cursor: Cursor) -> JoinOutcome {
        let watched = subscriber.interest().watched(self.partitions);
        let point = JoinPoint::After(cursor, CursorOrigin::Server);
        self.join(subscriber, &point, &watched, |_| Timestamp::default())
    }
}

/// The `id` of the last event about this user that the stream has queued.
fn id_of(subscriber: &Subscriber, name: &str, partitions: Partitions) -> Option<Cursor> {
    let mut context = Context::from_waker(Waker::noop());
    let mut text = String::new();
    while let Poll::Ready(Some(frame)) = subscriber.poll_next(&mut context) {
        text.push_str(&String::from_utf8_lossy(&frame.data()));
    }
    let mut messages = text.split("\n\n");
    let message = messages.find(|message| message.contains(&format!("\"{name}\"")))?;
    let id = message.lines().find_map(|line| line.strip_prefix("id: "));
    Some(Cursor::parse(id?, partitions).expect("a cursor"))
}

#[tokio::test]
async fn until_its_reset_a_stream_has_an_id_from_before_the_restart() {
    let hub = hub();
    let partitions = hub.partitions();
    let (lost, other) = (partitions.of(&user("alice")), partitions.of(&user("bob")));
    assert_ne!(lost, other);
    let (all, of_bob) = (
        hub.stream(Interest::AllUsers),
        hub.stream(Interest::users(vec![user("bob")])),
    );
    for subscriber in [&all, &of_bob] {
        assert_eq!(hub.joins(subscriber, hub.cursor()), JoinOutcome::Live);
    }
    hub.online("alice", 1, 0, 1_000).await;
    hub.restart(
        Filled::until(lost, Epoch(2), Position::START),
        ResetReason::DataLost,
    );
    hub.online("alice", 2, 0, 2_000).await;
    hub.online("bob", 1, 0, 3_000).await;
    for subscriber in [&all, &of_bob] {
        let id = id_of(subscriber, "bob", partitions).expect("the event of bob");
        assert_eq!(
            (id.position(lost), id.position(other)),
            (at(1_000), at(3_000))
        );
    }
    let later = hub.stream(Interest::AllUsers);
    assert_eq!(hub.joins(&later, hub.cursor()), JoinOutcome::Restarting);

    let restarted = hub.restarted().expect("a restart");
    assert_eq!(
        (restarted.count(), restarted.reason),
        (1, ResetReason::DataLost)
    );
    let parts = 0..crate::events::hub::lifetimes::Lifetimes::part_count();
    let detached: Vec<_> = parts
        .flat_map(|part| hub.detach(&restarted, part))
        .collect();
    assert!(matches!(&detached[..], [only] if Arc::ptr_eq(only, &all)));
    hub.release(&restarted);
    assert!(hub.restarted().is_none());
    for subscriber in [&all, &later] {
        assert_eq!(hub.joins(subscriber, hub.cursor()), JoinOutcome::Live);
    }
    hub.online("bob", 1, 3_000, 4_000).await;
    for subscriber in [&all, &of_bob, &later] {
        let id = id_of(subscriber, "bob", partitions).expect("the event of bob");
        assert_eq!(
            (id.position(lost), id.position(other)),
            (at(2_000), at(4_000))
        );
    }
}

#[tokio::test]
async fn a_partition_that_restarts_again_is_reset_again() {
    let hub = hub();
    let lost = hub.partitions().of(&user("alice"));
    let again = || Filled::until(lost, Epoch(2), at(5));
    hub.restart(again(), ResetReason::HistoryGone);
    let first = hub.restarted().expect("a restart");
    hub.restart(again(), ResetReason::DataLost);
    hub.release(&first);
    let second = hub.restarted().expect("the other restart");
    assert_eq!(second.reason, ResetReason::DataLost);
    hub.release(&second);
    assert!(hub.restarted().is_none());
}

/// A quiet stream would skip an event that it has not received yet.
#[tokio::test]
async fn a_quiet_stream_gets_no_newer_cursor_while_an_event_is_delivered() {
    let hub = hub();
    let subscriber = hub.stream(Interest::users(vec![user("bob")]));
    assert_eq!(hub.joins(&subscriber, hub.cursor()), JoinOutcome::Live);
    hub.online("alice", 1, 0, 1_000).await;
    let ready_after = |ticks: usize| {
        let mut context = Context::from_waker(Waker::noop());
        let mut told = 0;
        for _ in 0..ticks {
            hub.tick();
            while let Poll::Ready(Some(frame)) = subscriber.poll_next(&mut context) {
                told += usize::from(frame.data().starts_with(b"id: "));
            }
        }
        told
    };
    let minute = 8 * crate::events::hub::lifetimes::Lifetimes::part_count();
    assert_eq!(ready_after(1), 1, "the first one");
    hub.state.lock().is_delivering = true;
    assert_eq!(ready_after(minute), 0);
    hub.state.lock().is_delivering = false;
    assert_eq!(ready_after(minute), 1);
}
