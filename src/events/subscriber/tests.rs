use std::task::Waker;

use super::*;
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame::{self, States};
use crate::model::{Epoch, Position, UserId};

const GENERATION: u64 = 1;

/// Queue memory in bytes beyond the uncounted part of each stream.
const MEMORY: usize = 8_192;

fn at(millis: u64) -> Position {
    Position {
        millis,
        sequence: 0,
    }
}

fn ready(millis: u64) -> Frame {
    frame::ready(&Cursor::one(Epoch(1), at(millis)), None)
}

/// A stream that has all events up to this number.
fn live(number: u64) -> Live {
    Live {
        generation: GENERATION,
        next: number + 1,
    }
}

fn subscriber() -> Subscriber {
    subscriber_with_memory(&QueueMemory::with_limit(usize::MAX))
}

fn subscriber_with_memory(memory: &Arc<QueueMemory>) -> Subscriber {
    let options = SubscriberOptions {
        interest: Interest::AllUsers,
        since: 0,
        snapshot: false,
        closes: (Instant::now(), EndReason::MaxAge),
        credential: None,
    };
    Subscriber::new(1, 0, Interest::AllUsers, options, memory)
}

/// Returns what the client receives now. The outer `None` means nothing yet, the inner `None` the
/// end.
fn received(subscriber: &Subscriber) -> Option<Option<String>> {
    let mut context = Context::from_waker(Waker::noop());
    match subscriber.poll_next(&mut context) {
        Poll::Ready(frame) => {
            Some(frame.map(|frame| String::from_utf8_lossy(&frame.data()).into_owned()))
        }
        Poll::Pending => None,
    }
}

/// Returns the next message, without the reconnection time before it.
fn message(subscriber: &Subscriber) -> String {
    let first = received(subscriber).flatten().expect("a message");
    if first.starts_with("retry: ") {
        return received(subscriber).flatten().expect("a message");
    }
    first
}

#[test]
fn a_stream_begins_with_a_keep_alive_and_its_first_message_has_the_reconnection_time() {
    let subscriber = subscriber();
    assert_eq!(
        received(&subscriber),
        Some(Some(": keep-alive\n".to_owned()))
    );
    assert_eq!(received(&subscriber), None);
    subscriber.go_live(live(5), Vec::new(), || ready(5));
    let [retry, first] = [(); 2].map(|()| received(&subscriber).flatten().expect("a message"));
    assert!(
        retry.starts_with("retry: ") && retry.ends_with('\n'),
        "{retry}"
    );
    assert!(first.starts_with("id: 1.5.0\n"), "{first}");
    subscriber.push(GENERATION, 6, &ready(6));
    assert!(
        received(&subscriber)
            .flatten()
            .expect("a message")
            .starts_with("id: 1.6.0\n")
    );
}

#[test]
fn a_quiet_stream_sends_a_newer_cursor_after_a_minute() {
    let subscriber = subscriber();
    subscriber.go_live(live(5), Vec::new(), || ready(5));
    message(&subscriber);
    let minute_with = |newest: u64| {
        let newer = ready(newest);
        let text = (1..=QUIET_ROUNDS).map(|_| {
            subscriber.keep_alive(Some((live(newest), &newer)));
            let text = message(&subscriber);
            text.contains(&format!("id: 1.{newest:x}.0"))
        });
        text.collect::<Vec<_>>()
    };
    assert_eq!(minute_with(9), [false, false, false, false, false, true]);
    assert_eq!(minute_with(9), [false; QUIET_ROUNDS as usize]);
    assert_eq!(subscriber.push(GENERATION, 9, &ready(9)), Pushed::Ignored);
    assert_eq!(subscriber.push(GENERATION, 10, &ready(10)), Pushed::Queued);
}

#[test]
fn a_stream_at_its_maximum_age_delivers_its_queue_then_the_reason() {
    let subscriber = subscriber();
    subscriber.push_backlog([ready(1)]);
    subscriber.end(EndReason::MaxAge);
    subscriber.push_backlog([ready(2)]);
    assert!(message(&subscriber).contains("id: 1.1.0"));
    let reason = message(&subscriber);
    assert_eq!(
        reason,
        "event: presence.end\ndata: {\"reason\":\"max-age\"}\n\n"
    );
    assert_eq!(received(&subscriber), Some(None));
}

#[test]
fn the_queue_of_an_ended_stream_is_dropped_after_its_time() {
    let (dropped, closed) = (subscriber(), subscriber());
    for subscriber in [&dropped, &closed] {
        subscriber.push_backlog([ready(1)]);
        subscriber.end(EndReason::TokenExpired);
        subscriber.drop_queues();
    }
    let reason = message(&dropped);
    assert!(reason.contains("token-expired"), "{reason}");
    closed.close();
    assert_eq!(received(&closed), Some(None));
    let mut context = Context::from_waker(Waker::noop());
    assert!(closed.poll_closed(&mut context).is_ready());
}

#[test]
fn a_client_that_is_too_slow_receives_only_the_reason() {
    let subscriber = subscriber();
    subscriber.go_live(live(0), Vec::new(), || ready(0));
    let pushed = (1..=LIVE_LIMIT as u64 + 1)
        .map(|number| subscriber.push(GENERATION, number, &ready(number)));
    assert_eq!(pushed.last(), Some(Pushed::TooSlow));
    assert!(message(&subscriber).contains("too-slow"));
    assert_eq!(received(&subscriber), Some(None));
}

#[test]
fn a_stream_that_watches_a_restarted_partition_is_detached_once_and_gets_none_of_its_new_events() {
    let [watching, other] = [(); 2].map(|()| subscriber());
    for subscriber in [&watching, &other] {
        subscriber.go_live(live(5), Vec::new(), || ready(5));
        assert!(message(subscriber).contains("presence.ready"));
    }
    let event = ready(6);
    assert_eq!(watching.push(GENERATION + 1, 6, &event), Pushed::Ignored);
    let newest = Live {
        generation: GENERATION + 1,
        next: 9,
    };
    for _ in 0..2 * QUIET_ROUNDS {
        watching.keep_alive(Some((newest, &event)));
        assert_eq!(message(&watching), ": keep-alive\n");
    }
    for subscriber in [&watching, &other] {
        assert!(!subscriber.enter_generation(GENERATION, || true));
    }
    assert!(watching.enter_generation(GENERATION + 1, || true));
    assert!(!other.enter_generation(GENERATION + 1, || false));
    for subscriber in [&watching, &other] {
        assert!(!subscriber.enter_generation(GENERATION + 1, || true));
    }
    assert_eq!(watching.push(GENERATION + 1, 7, &event), Pushed::Ignored);
    assert_eq!(other.push(GENERATION + 1, 7, &event), Pushed::Queued);
}

#[test]
fn a_client_is_cut_off_if_all_queues_take_too_much_memory() {
    let memory = QueueMemory::with_limit(MEMORY);
    let (subscriber, other) = (
        subscriber_with_memory(&memory),
        subscriber_with_memory(&memory),
    );
    subscriber.go_live(live(0), Vec::new(), || ready(0));
    let pushed: Vec<_> = (1..1_000)
        .map(|millis| subscriber.push(GENERATION, millis, &ready(millis)))
        .collect();
    let queued = pushed
        .iter()
        .take_while(|pushed| **pushed == Pushed::Queued)
        .count();
    assert!(
        (MEMORY / size_of::<Frame>()..1_000).contains(&queued),
        "{queued} were queued"
    );
    assert_eq!(pushed[queued], Pushed::TooSlow);
    let last = message(&subscriber);
    assert!(last.contains("too-slow"), "{last}");
    let users: Vec<_> = (0..3 * MEMORY / 10)
        .map(|number| UserId::new(&format!("user-{number:05}")).expect("an id"))
        .collect();
    assert!(
        !other.push_unshared(frame::snapshot(
            &Cursor::one(Epoch(1), at(0)),
            None,
            &users,
            &States::default()
        )),
        "the queues exceed the limit"
    );
}
