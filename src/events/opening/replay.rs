//! What a stream missed, read from the ring in small parts and never under its lock for long.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::task::yield_now;

use crate::events::hub::Hub;
use crate::events::hub::join::{EntryRef, RingChanged};
use crate::events::interest::Interest;
use crate::events::sse::frame;
use crate::events::subscriber::Subscriber;
use crate::model::{Epoch, Position, PresenceEvent, UserId};

/// How many entries one block of messages is about.
const BLOCK: u64 = 128;

/// How many blocks are kept for the next stream that missed the same: about 10 MiB.
const BLOCKS: usize = 512;

/// How many entries are looked at, one after the other, in one part.
const SCAN: u64 = 1_024;

/// How many links of users are followed in one part.
const LINKS: usize = 1_024;

/// How many events of chosen users are found by their links; where there are more it is cheaper to
/// look at all entries.
const MOST_LINKED: usize = 16_384;

/// Replayer for all streams of a hub, with the blocks that several of them need.
#[derive(Debug, Default)]
pub(crate) struct Replayer {
    blocks: Mutex<Blocks>,
}

/// Messages of whole blocks, which are the same for every stream about all_users.
#[derive(Debug, Default)]
struct Blocks {
    written: HashMap<(u64, u64), Bytes>,
    order: VecDeque<(u64, u64)>,
}

impl Blocks {
    fn keep(&mut self, key: (u64, u64), block: Bytes) {
        if self.written.insert(key, block).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > BLOCKS
            && let Some(oldest) = self.order.pop_front()
        {
            self.written.remove(&oldest);
        }
    }
}

impl Replayer {
    /// Feeds what `subscriber` missed from `place` on, until so little is left that it can join, or the
    /// stream ended. Returns the position up to which everything was fed.
    pub(crate) async fn feed(
        &self,
        hub: &Hub,
        subscriber: &Arc<Subscriber>,
        place: EntryRef,
    ) -> Result<Position, RingChanged> {
        match &subscriber.interest {
            Interest::AllUsers => self.feed_everything(hub, subscriber, place).await,
            Interest::Users(users) => match linked(hub, users, place).await? {
                Some((found, end)) => feed_found(hub, subscriber, found, end).await,
                None => feed_wanted(hub, subscriber, place).await,
            },
        }
    }

    async fn feed_everything(
        &self,
        hub: &Hub,
        subscriber: &Arc<Subscriber>,
        mut place: EntryRef,
    ) -> Result<Position, RingChanged> {
        let end = hub.read(place, |_, ring| ring.end())?;
        while place.number < end {
            let upto = ((place.number / BLOCK + 1) * BLOCK).min(end);
            let key = (place.generation, place.number / BLOCK);
            let is_whole = upto - place.number == BLOCK;
            let kept = self.blocks.lock().written.get(&key).cloned();
            let block = match kept.filter(|_| is_whole) {
                Some(block) => block,
                None => {
                    let (epoch, events) = copy(hub, place, place.number..upto, |_| true)?;
                    let block = written(epoch, &events);
                    if is_whole {
                        self.blocks.lock().keep(key, block.clone());
                    }
                    block
                }
            };
            place.number = upto;
            if !feed(subscriber, block).await {
                break;
            }
        }
        hub.read(place, |_, ring| ring.position_before(place.number))
    }
}

/// Feeds a block that other streams share, and lets the reader take it; false when the stream ended.
async fn feed(subscriber: &Subscriber, block: Bytes) -> bool {
    if !block.is_empty() {
        subscriber.feed([block]);
    }
    yield_now().await;
    subscriber.backlog_taken().await
}

/// Feeds messages that no other stream has, and lets the reader take them; false when the stream ended.
async fn feed_own(subscriber: &Subscriber, messages: Bytes) -> bool {
    if !messages.is_empty() {
        subscriber.feed_own(messages);
    }
    yield_now().await;
    subscriber.backlog_taken().await
}

fn written(epoch: Epoch, events: &[PresenceEvent]) -> Bytes {
    let mut block = BytesMut::new();
    for event in events {
        block.extend_from_slice(&frame::event(epoch, event));
    }
    block.freeze()
}

/// The events with these numbers that are wanted.
fn copy(
    hub: &Hub,
    from: EntryRef,
    numbers: impl Iterator<Item = u64>,
    is_wanted: impl Fn(&UserId) -> bool,
) -> Result<(Epoch, Vec<PresenceEvent>), RingChanged> {
    hub.read(from, |epoch, ring| {
        let wanted = numbers.filter(|number| ring.user(*number).is_some_and(&is_wanted));
        (
            epoch,
            wanted.filter_map(|number| ring.event(number)).collect(),
        )
    })
}

/// Looks at every entry.
async fn feed_wanted(
    hub: &Hub,
    subscriber: &Arc<Subscriber>,
    mut place: EntryRef,
) -> Result<Position, RingChanged> {
    let end = hub.read(place, |_, ring| ring.end())?;
    while place.number < end {
        let upto = (place.number + SCAN).min(end);
        let wanted = |user: &UserId| subscriber.interest.includes(user);
        let (epoch, events) = copy(hub, place, place.number..upto, wanted)?;
        place.number = upto;
        for part in events.chunks(BLOCK as usize) {
            feed_own(subscriber, written(epoch, part)).await;
        }
        if subscriber.has_ended() {
            break;
        }
        yield_now().await;
    }
    hub.read(place, |_, ring| ring.position_before(place.number))
}

/// The numbers of the events of `users` from `place` on, in order, and the place they reach to:
/// found by the links of each user, so that this costs as much as there are users and events. Nothing
/// where it is cheaper to look at all entries.
async fn linked(
    hub: &Hub,
    users: &[UserId],
    place: EntryRef,
) -> Result<Option<(Vec<u64>, EntryRef)>, RingChanged> {
    let number = hub.read(place, |_, ring| ring.end())?;
    let end = EntryRef { number, ..place };
    if end.number - place.number <= (users.len() as u64).max(SCAN) {
        return Ok(None);
    }
    let mut found = Vec::new();
    let mut users = users.iter();
    let mut next = None;
    let mut is_done = false;
    while !is_done {
        is_done = hub.read(place, |_, ring| {
            for _ in 0..LINKS {
                match next {
                    Some(number) if number >= place.number => {
                        if number < end.number {
                            found.push(number);
                        }
                        next = ring.earlier(number);
                    }
                    _ => match users.next() {
                        Some(user) => next = ring.newest_of(user),
                        None => return true,
                    },
                }
            }
            false
        })?;
        if found.len() > MOST_LINKED {
            return Ok(None);
        }
        yield_now().await;
    }
    found.sort_unstable();
    Ok(Some((found, end)))
}

async fn feed_found(
    hub: &Hub,
    subscriber: &Arc<Subscriber>,
    found: Vec<u64>,
    end: EntryRef,
) -> Result<Position, RingChanged> {
    for part in found.chunks(BLOCK as usize) {
        let first = EntryRef {
            number: part[0],
            ..end
        };
        let (epoch, events) = copy(hub, first, part.iter().copied(), |_| true)?;
        if !feed_own(subscriber, written(epoch, &events)).await {
            break;
        }
    }
    hub.read(end, |_, ring| ring.position_before(end.number))
}
