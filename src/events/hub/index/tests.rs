use std::collections::BTreeSet as Set;

use tokio::time::Instant;

use super::*;
use crate::events::sse::payload::EndReason;
use crate::events::subscriber::SubscriberOptions;
use crate::events::subscriber::queue_memory::QueueMemory;

fn users(numbers: impl IntoIterator<Item = usize>) -> Interest {
    let ids = numbers
        .into_iter()
        .map(|number| UserId::new(&format!("user-{number}")));
    Interest::users(ids.collect::<Result<_, _>>().expect("good ids"))
}

fn open(index: &mut Index, id: u64, interest: &Interest) -> Arc<Subscriber> {
    let audience = index.audience(interest, usize::MAX).expect("an audience");
    let options = SubscriberOptions {
        interest: interest.clone(),
        since: 0,
        snapshot: false,
        closes: (Instant::now(), EndReason::MaxAge),
        credential: None,
    };
    let subscriber = Arc::new(Subscriber::new(
        id,
        audience,
        index.interest(audience),
        options,
        &QueueMemory::with_limit(0),
    ));
    index.add(audience, &subscriber);
    while index.insert_some(audience) {}
    subscriber
}

fn close(index: &mut Index, subscriber: &Subscriber) {
    if let Some(mut removed) = index.remove(subscriber.audience(), subscriber) {
        while index.remove_some(&mut removed) {}
    }
}

/// Returns the subscribers that receive an event of this user, `limit` in each step.
fn interested(index: &Index, user: usize, limit: usize) -> Vec<u64> {
    let user = UserId::new(&format!("user-{user}")).expect("an id");
    let mut streams = Vec::new();
    let mut delivered = Some(DeliveryPoint::default());
    while let Some(from) = delivered {
        let audiences = index.interested_in(&user);
        delivered = index.for_each_in(&audiences, from, limit, |subscriber| {
            streams.push(subscriber.id)
        });
    }
    streams
}

#[test]
fn every_interested_stream_is_reached_once_with_any_part_size() {
    let mut index = Index::new();
    let interests = [
        Interest::AllUsers,
        users([1, 2]),
        users([2, 1]),
        users([2]),
        users([2, 3]),
        Interest::AllUsers,
        users(0..2_000),
    ];
    let subscribers: Vec<_> = (0..)
        .zip(&interests)
        .map(|(id, interest)| open(&mut index, id, interest))
        .collect();
    for limit in [1, 2, 3, 100] {
        let delivered = interested(&index, 2, limit);
        assert_eq!(delivered.len(), 7);
        assert_eq!(delivered.into_iter().collect::<Set<_>>(), (0..7).collect());
        assert_eq!(interested(&index, 1_999, limit), [0, 5, 6]);
        assert_eq!(interested(&index, 2_000, limit), [0, 5]);
    }
    assert!(
        subscribers[1].interest() == subscribers[2].interest()
            && subscribers[1].audience() == subscribers[2].audience()
    );
    for subscriber in &subscribers[..3] {
        close(&mut index, subscriber);
    }
    assert_eq!(interested(&index, 2, 1), [5, 3, 4, 6]);
    for subscriber in &subscribers[3..] {
        close(&mut index, subscriber);
    }
    assert_eq!(
        (index.watched, index.by_user.len(), index.audiences.len()),
        (0, 0, 1)
    );
    assert!(index.by_interest.is_empty());
}

#[test]
fn equal_lists_count_once_and_a_list_beyond_the_limit_is_refused() {
    let mut index = Index::new();
    let first = open(&mut index, 0, &users(0..10));
    let limit = 15;
    assert_eq!(index.audience(&users(0..10), limit), Some(first.audience()));
    assert_eq!(index.audience(&users(10..20), limit), None);
    assert!(index.audience(&users(10..15), limit).is_some());
    assert!(index.audience(&Interest::AllUsers, limit).is_some());
}
