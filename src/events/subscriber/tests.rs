use std::task::Waker;

use super::*;
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame;
use crate::model::Epoch;

const GENERATION: u64 = 1;

/// Bytes for all queues beyond those that each may take.
const ROOM: usize = 8_192;

fn at(millis: u64) -> Position {
    Position {
        millis,
        sequence: 0,
    }
}

fn ready(millis: u64) -> Bytes {
    frame::ready(Cursor::at(Epoch(1), at(millis)), None)
}

fn subscriber() -> Subscriber {
    subscriber_with_memory(&QueueMemory::at_most(usize::MAX))
}

fn subscriber_with_memory(waiting: &Arc<QueueMemory>) -> Subscriber {
    let opening = SubscriberOptions {
        interest: Interest::AllUsers,
        snapshot: false,
        closes: (Instant::now(), EndReason::MaxAge),
        credential: None,
    };
    Subscriber::new(1, 0, Interest::AllUsers, opening, waiting)
}

/// What the reader is handed now, if anything; `None` inside at the end.
fn taken(subscriber: &Subscriber) -> Option<Option<String>> {
    let mut context = Context::from_waker(Waker::noop());
    match subscriber.poll_next(&mut context) {
        Poll::Ready(bytes) => Some(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
        Poll::Pending => None,
    }
}

#[test]
fn a_stream_says_at_once_that_it_lives_and_when_to_reconnect_with_its_first_message() {
    let subscriber = subscriber();
    assert_eq!(taken(&subscriber), Some(Some(": keep-alive\n".to_owned())));
    assert_eq!(taken(&subscriber), None);
    subscriber.follow(GENERATION, at(5), Vec::new(), || ready(5));
    let first = taken(&subscriber).flatten().expect("a message");
    assert!(
        first.starts_with("retry: ") && first.contains("\nid: 1.5.0\n"),
        "{first}"
    );
    subscriber.push(GENERATION, at(6), &ready(6));
    assert!(
        taken(&subscriber)
            .flatten()
            .expect("a message")
            .starts_with("id: 1.6.0\n")
    );
}

#[test]
fn a_quiet_stream_is_told_a_newer_cursor_after_a_minute_and_only_where_there_is_one() {
    let subscriber = subscriber();
    subscriber.follow(GENERATION, at(5), Vec::new(), || ready(5));
    taken(&subscriber);
    let minute_with = |newest: u64| {
        let newer = ready(newest);
        let told = (1..=QUIET_ROUNDS).map(|_| {
            subscriber.keep_alive(Some((GENERATION, at(newest), &newer)));
            let told = taken(&subscriber)
                .flatten()
                .expect("a comment or a message");
            told.contains(&format!("id: 1.{newest:x}.0"))
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(minute_with(9), [false, false, false, false, false, true]);
    assert_eq!(minute_with(9), [false; QUIET_ROUNDS as usize]);
    assert_eq!(
        subscriber.push(GENERATION, at(9), &ready(9)),
        Pushed::Ignored
    );
    assert_eq!(
        subscriber.push(GENERATION, at(10), &ready(10)),
        Pushed::Queued
    );
}

#[test]
fn an_aged_stream_hands_out_what_waits_then_the_reason_and_then_nothing() {
    let subscriber = subscriber();
    subscriber.feed([ready(1)]);
    subscriber.end(EndReason::MaxAge);
    assert!(!subscriber.feed([ready(2)]));
    assert!(
        taken(&subscriber)
            .flatten()
            .expect("what waits")
            .contains("id: 1.1.0")
    );
    let reason = taken(&subscriber).flatten().expect("the reason");
    assert_eq!(
        reason,
        "event: presence.end\ndata: {\"reason\":\"max-age\"}\n\n"
    );
    assert_eq!(taken(&subscriber), Some(None));
}

#[test]
fn what_was_not_taken_in_time_is_dropped() {
    let (dropped, finished) = (subscriber(), subscriber());
    for subscriber in [&dropped, &finished] {
        subscriber.feed([ready(1)]);
        subscriber.end(EndReason::TokenExpired);
        subscriber.drop_queues();
    }
    let reason = taken(&dropped).flatten().expect("the reason");
    assert!(
        reason.starts_with("retry: ") && reason.contains("token-expired"),
        "{reason}"
    );
    finished.finish();
    assert_eq!(taken(&finished), Some(None));
    let mut context = Context::from_waker(Waker::noop());
    assert!(finished.poll_cut_off(&mut context).is_ready());
}

#[test]
fn a_reader_that_is_too_far_behind_is_told_so_and_nothing_else() {
    let subscriber = subscriber();
    subscriber.follow(GENERATION, at(0), Vec::new(), || ready(0));
    let pushed = (1..=LIVE_LIMIT as u64 + 1)
        .map(|number| subscriber.push(GENERATION, at(number), &ready(number)));
    assert_eq!(pushed.last(), Some(Pushed::Overflowed));
    assert!(
        taken(&subscriber)
            .flatten()
            .expect("the reason")
            .contains("too-slow")
    );
    assert_eq!(taken(&subscriber), Some(None));
}

#[test]
fn a_stream_of_an_earlier_ring_is_left_once_and_hears_nothing_of_the_new_one() {
    let subscriber = subscriber();
    subscriber.follow(GENERATION, at(5), Vec::new(), || ready(5));
    assert_eq!(
        subscriber.push(GENERATION + 1, at(6), &ready(6)),
        Pushed::Ignored
    );
    assert!(!subscriber.detach_before(GENERATION));
    assert!(subscriber.detach_before(GENERATION + 1));
    assert!(!subscriber.detach_before(GENERATION + 1));
    assert_eq!(taken(&subscriber), Some(Some(": keep-alive\n".to_owned())));
}

#[test]
fn a_reader_is_cut_off_where_too_much_waits_for_all_readers() {
    let waiting = QueueMemory::at_most(ROOM);
    let (subscriber, other) = (
        subscriber_with_memory(&waiting),
        subscriber_with_memory(&waiting),
    );
    subscriber.follow(GENERATION, at(0), Vec::new(), || ready(0));
    let pushed: Vec<_> = (1..1_000)
        .map(|millis| subscriber.push(GENERATION, at(millis), &ready(millis)))
        .collect();
    let queued = pushed
        .iter()
        .take_while(|pushed| **pushed == Pushed::Queued)
        .count();
    assert!(
        (ROOM / size_of::<Bytes>()..1_000).contains(&queued),
        "{queued} were queued"
    );
    assert_eq!(pushed[queued], Pushed::Overflowed);
    let last = taken(&subscriber).flatten().expect("the reason");
    assert!(last.contains("too-slow"), "{last}");
    assert!(
        !other.feed_own(vec![b'x'; 3 * ROOM].into()),
        "there is no room for that"
    );
    assert!(other.has_ended());
}
