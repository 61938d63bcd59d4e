//! Replays missed events from the ring in small parts. The hub is locked only briefly for each
//! part.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::yield_now;

use crate::events::hub::Hub;
use crate::events::hub::join::{EntryRef, RingChanged};
use crate::events::interest::Interest;
use crate::events::sse::frame::{self, Frame};
use crate::events::subscriber::Subscriber;
use crate::model::{Epoch, Position, PresenceEvent, UserId};

/// Entries that one shared block covers.
const BLOCK_ENTRIES: u64 = 128;

/// Blocks that are kept for other streams that missed the same events: about 10 MiB.
const KEPT_BLOCKS: usize = 512;

/// Entries that one part of a scan reads.
const SCAN_PART: u64 = 1_024;

/// Links that are followed in one part.
const LINKS_PER_PART: usize = 1_024;

/// Events that are found by the links of users. Beyond this number a scan of all entries is
/// cheaper.
const MAX_LINKED: usize = 16_384;

/// Replays missed events. Streams of all users share encoded blocks.
#[derive(Debug, Default)]
pub(crate) struct Replayer {
    blocks: Mutex<Blocks>,
}

/// The encoded events of whole blocks, for streams of all users.
#[derive(Debug, Default)]
struct Blocks {
    frames: HashMap<(u64, u64), Option<Frame>>,
    order: VecDeque<(u64, u64)>,
}

impl Blocks {
    fn keep(&mut self, key: (u64, u64), block: Option<Frame>) {
        if self.frames.insert(key, block).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > KEPT_BLOCKS
            && let Some(oldest) = self.order.pop_front()
        {
            self.frames.remove(&oldest);
        }
    }
}

impl Replayer {
    /// Queues the missed events from `from` on, until the stream can join or has ended. Returns the
    /// position that the backlog reaches.
    pub(crate) async fn replay(
        &self,
        hub: &Hub,
        subscriber: &Arc<Subscriber>,
        from: EntryRef,
    ) -> Result<Position, RingChanged> {
        match &subscriber.interest {
            Interest::AllUsers => self.replay_all(hub, subscriber, from).await,
            Interest::Users(users) => match find_by_links(hub, users, from).await? {
                Some((found, end)) => replay_entries(hub, subscriber, found, end).await,
                None => replay_by_scan(hub, subscriber, from).await,
            },
        }
    }

    async fn replay_all(
        &self,
        hub: &Hub,
        subscriber: &Arc<Subscriber>,
        mut from: EntryRef,
    ) -> Result<Position, RingChanged> {
        let end = hub.read(from, |_, ring| ring.end())?;
        while from.number < end {
            let until = ((from.number / BLOCK_ENTRIES + 1) * BLOCK_ENTRIES).min(end);
            let key = (from.generation, from.number / BLOCK_ENTRIES);
            let is_whole = until - from.number == BLOCK_ENTRIES;
            let kept = self.blocks.lock().frames.get(&key).cloned();
            let block = match kept.filter(|_| is_whole) {
                Some(block) => block,
                None => {
                    let (epoch, events) = copy(hub, from, from.number..until, |_| true)?;
                    let block = frame::events(epoch, &events);
                    if is_whole {
                        self.blocks.lock().keep(key, block.clone());
                    }
                    block
                }
            };
            from.number = until;
            if !send_shared(subscriber, block).await {
                break;
            }
        }
        hub.read(from, |_, ring| ring.position_before(from.number))
    }
}

/// Queues a shared block and waits until the client has taken it. Returns false if the stream
/// ended.
async fn send_shared(subscriber: &Subscriber, block: Option<Frame>) -> bool {
    subscriber.push_backlog(block);
    yield_now().await;
    subscriber.backlog_taken().await
}

/// Queues events that only this stream carries, and waits until the client has taken them. Returns
/// false if the stream ended.
async fn send_unshared(hub: &Hub, subscriber: &Arc<Subscriber>, messages: Option<Frame>) -> bool {
    if let Some(messages) = messages
        && !subscriber.push_unshared(messages)
    {
        hub.cut_off(subscriber);
    }
    yield_now().await;
    subscriber.backlog_taken().await
}

/// Copies the wanted events among these entries.
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

/// Replays by a scan of all entries.
async fn replay_by_scan(
    hub: &Hub,
    subscriber: &Arc<Subscriber>,
    mut from: EntryRef,
) -> Result<Position, RingChanged> {
    let end = hub.read(from, |_, ring| ring.end())?;
    while from.number < end {
        let until = (from.number + SCAN_PART).min(end);
        let wanted = |user: &UserId| subscriber.interest.includes(user);
        let (epoch, events) = copy(hub, from, from.number..until, wanted)?;
        from.number = until;
        for part in events.chunks(BLOCK_ENTRIES as usize) {
            send_unshared(hub, subscriber, frame::events(epoch, part)).await;
        }
        if subscriber.has_ended() {
            break;
        }
        yield_now().await;
    }
    hub.read(from, |_, ring| ring.position_before(from.number))
}

/// Follows the links of each user. Returns the numbers of the users' events from `from` on, in
/// order, and the end of the range. The cost depends only on the number of users and their events.
/// Returns `None` if a scan of all entries is cheaper.
async fn find_by_links(
    hub: &Hub,
    users: &[UserId],
    from: EntryRef,
) -> Result<Option<(Vec<u64>, EntryRef)>, RingChanged> {
    let number = hub.read(from, |_, ring| ring.end())?;
    let end = EntryRef { number, ..from };
    if end.number - from.number <= (users.len() as u64).max(SCAN_PART) {
        return Ok(None);
    }
    let mut found = Vec::new();
    let mut users = users.iter();
    let mut next = None;
    let mut is_done = false;
    while !is_done {
        is_done = hub.read(from, |_, ring| {
            for _ in 0..LINKS_PER_PART {
                match next {
                    Some(number) if number >= from.number => {
                        if number < end.number {
                            found.push(number);
                        }
                        next = ring.previous_of_user(number);
                    }
                    _ => match users.next() {
                        Some(user) => next = ring.newest_of(user),
                        None => return true,
                    },
                }
            }
            false
        })?;
        if found.len() > MAX_LINKED {
            return Ok(None);
        }
        yield_now().await;
    }
    found.sort_unstable();
    Ok(Some((found, end)))
}

async fn replay_entries(
    hub: &Hub,
    subscriber: &Arc<Subscriber>,
    found: Vec<u64>,
    end: EntryRef,
) -> Result<Position, RingChanged> {
    for part in found.chunks(BLOCK_ENTRIES as usize) {
        let first = EntryRef {
            number: part[0],
            ..end
        };
        let (epoch, events) = copy(hub, first, part.iter().copied(), |_| true)?;
        if !send_unshared(hub, subscriber, frame::events(epoch, &events)).await {
            break;
        }
    }
    hub.read(end, |_, ring| ring.position_before(end.number))
}
