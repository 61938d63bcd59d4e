//! Replays missed events from the ring in small parts. The hub is locked only briefly for each
//! part.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::yield_now;

use crate::events::hub::Hub;
use crate::events::hub::copies::Copies;
use crate::events::hub::join::{EntryRef, Missed, RingChanged};
use crate::events::hub::locate::Progress;
use crate::events::hub::membership::Candidates;
use crate::events::hub::ring::Ring;
use crate::events::interest::Interest;
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame::{Events, Frame};
use crate::events::subscriber::Subscriber;
use crate::model::{Entry, Partition, PartitionSet, UserId};

/// Entries that one shared block covers.
const BLOCK_ENTRIES: u64 = 128;

/// Blocks that are kept for other streams that missed the same events, and their bytes.
const KEPT_BLOCKS: usize = 512;
const KEPT_BYTES: usize = 16 << 20;

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
    bytes: usize,
}

impl Blocks {
    fn keep(&mut self, key: (u64, u64), block: Option<Frame>) {
        let memory = |block: Option<Frame>| block.map_or(0, |frame| frame.memory());
        self.bytes += memory(block.clone());
        match self.frames.insert(key, block) {
            Some(same) => self.bytes -= memory(same),
            None => self.order.push_back(key),
        }
        while self.order.len() > KEPT_BLOCKS || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            self.bytes -= memory(self.frames.remove(&oldest).flatten());
        }
    }
}

/// A stream that missed events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behind<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) subscriber: &'a Arc<Subscriber>,
    /// The partitions of its users.
    pub(crate) watched: &'a PartitionSet,
}

impl Replayer {
    /// Queues the missed events of a stream with this cursor, until the stream can join or has ended. A stream without
    /// a cursor has exactly the entries before the missed ones. Returns the entry from which the stream can join.
    pub(crate) async fn replay(
        &self,
        stream: Behind<'_>,
        missed: Missed,
        cursor: Option<&Cursor>,
    ) -> Result<EntryRef, RingChanged> {
        let mut from = missed.from;
        let mut progress = match cursor {
            Some(cursor) => Progress::of(cursor),
            None => stream.progress_before(from)?,
        };
        if from.number < missed.skew_end {
            from = stream.scan(from, missed.skew_end, &mut progress).await?;
        }
        match &stream.subscriber.interest() {
            Interest::AllUsers => self.replay_all(stream, from).await,
            Interest::Users(users) => match stream.find_by_links(users, from).await? {
                Some((found, end)) => stream.send_found(found, end, progress).await,
                None => stream.scan_all(from, &mut progress).await,
            },
            Interest::Groups(_) => stream.scan_all(from, &mut progress).await,
        }
    }

    /// Like [`Replayer::replay`], up to the entry with the number `end`.
    pub(crate) async fn replay_until(
        &self,
        stream: Behind<'_>,
        missed: Missed,
        cursor: Option<&Cursor>,
        end: u64,
    ) -> Result<EntryRef, RingChanged> {
        let mut progress = match cursor {
            Some(cursor) => Progress::of(cursor),
            None => stream.progress_before(missed.from)?,
        };
        stream.scan(missed.from, end, &mut progress).await
    }

    async fn replay_all(
        &self,
        stream: Behind<'_>,
        mut from: EntryRef,
    ) -> Result<EntryRef, RingChanged> {
        let end = stream.read(from, Ring::end)?;
        while from.number < end {
            let until = ((from.number / BLOCK_ENTRIES + 1) * BLOCK_ENTRIES).min(end);
            let key = (from.generation, from.number / BLOCK_ENTRIES);
            let is_whole = until - from.number == BLOCK_ENTRIES;
            let kept = self.blocks.lock().frames.get(&key).cloned();
            let block = match kept.filter(|_| is_whole) {
                Some(block) => block,
                None => {
                    let mut progress = stream.progress_before(from)?;
                    let events = stream.copy(from, from.number..until)?;
                    let block = encode(&events, &mut progress);
                    if is_whole {
                        self.blocks.lock().keep(key, block.clone());
                    }
                    block
                }
            };
            from.number = until;
            if !stream.send_shared(block).await {
                break;
            }
        }
        Ok(from)
    }
}

/// Encodes the events that a client with this progress does not have.
fn encode(events: &[(Partition, Entry)], progress: &mut Progress) -> Option<Frame> {
    let mut frame = Events::with_capacity(events.len());
    for (partition, event) in events {
        if progress.advance(*partition, event.position()) {
            frame.push(progress.id(), event);
        }
    }
    frame.finish()
}

impl Behind<'_> {
    fn read<T>(&self, from: EntryRef, read: impl FnOnce(&Ring) -> T) -> Result<T, RingChanged> {
        self.hub.read(from, self.watched, read)
    }

    /// Returns the progress of a client that has exactly the entries before this one.
    fn progress_before(&self, from: EntryRef) -> Result<Progress, RingChanged> {
        self.read(from, |ring| Progress::of(&ring.cursor_before(from.number)))
    }

    /// Queues a shared block and waits until the client has taken it. Returns false if the stream
    /// ended.
    async fn send_shared(&self, block: Option<Frame>) -> bool {
        self.subscriber.push_backlog(block);
        yield_now().await;
        self.subscriber.backlog_taken().await
    }

    /// Queues events that only this stream carries, and waits until the client has taken them. Returns
    /// false if the stream ended.
    async fn send_unshared(&self, messages: Option<Frame>) -> bool {
        if let Some(messages) = messages
            && !self.subscriber.push_unshared(messages)
        {
            self.hub.cut_off(self.subscriber);
        }
        yield_now().await;
        self.subscriber.backlog_taken().await
    }

    /// Copies the events among these entries that the stream carries, with their partitions.
    fn copy(
        &self,
        from: EntryRef,
        numbers: impl Iterator<Item = u64>,
    ) -> Result<Vec<(Partition, Entry)>, RingChanged> {
        let interest = self.subscriber.interest();
        let read =
            |ring: &Ring, copies: &Copies| Candidates::read(numbers, ring, copies, &interest);
        let candidates = self.hub.read_with_copies(from, self.watched, read)?;
        let carried = candidates.carried().into_iter();
        self.read(from, |ring| {
            carried.filter_map(|number| ring.event(number)).collect()
        })
    }

    /// Replays by a scan of all entries.
    async fn scan_all(
        &self,
        from: EntryRef,
        progress: &mut Progress,
    ) -> Result<EntryRef, RingChanged> {
        let end = self.read(from, Ring::end)?;
        self.scan(from, end, progress).await
    }

    /// Replays by a scan of all entries before the number `end`.
    async fn scan(
        &self,
        mut from: EntryRef,
        end: u64,
        progress: &mut Progress,
    ) -> Result<EntryRef, RingChanged> {
        while from.number < end {
            let until = (from.number + SCAN_PART).min(end);
            let events = self.copy(from, from.number..until)?;
            from.number = until;
            for part in events.chunks(BLOCK_ENTRIES as usize) {
                self.send_unshared(encode(part, progress)).await;
            }
            if self.subscriber.has_ended() {
                break;
            }
            yield_now().await;
        }
        Ok(from)
    }

    /// Follows the links of each user. Returns the numbers of the users' events from `from` on, in
    /// order, and the end of the range. The cost depends only on the number of users and their events.
    /// Returns `None` if a scan of all entries is cheaper.
    async fn find_by_links(
        &self,
        users: &[UserId],
        from: EntryRef,
    ) -> Result<Option<(Vec<u64>, EntryRef)>, RingChanged> {
        let number = self.read(from, Ring::end)?;
        let end = EntryRef { number, ..from };
        if end.number - from.number <= (users.len() as u64).max(SCAN_PART) {
            return Ok(None);
        }
        let mut found = Vec::new();
        let mut users = users.iter();
        let mut next = None;
        let mut is_done = false;
        while !is_done {
            is_done = self.read(from, |ring| {
                for _ in 0..LINKS_PER_PART {
                    match next {
                        Some(number) if number >= from.number => {
                            if number < end.number {
                                found.push(number);
                            }
                            next = ring.previous_of_same(number);
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

    /// Replays the entries with these numbers. The stream has then all its events before `end`.
    async fn send_found(
        &self,
        found: Vec<u64>,
        end: EntryRef,
        mut progress: Progress,
    ) -> Result<EntryRef, RingChanged> {
        for part in found.chunks(BLOCK_ENTRIES as usize) {
            let first = EntryRef {
                number: part[0],
                ..end
            };
            let events = self.copy(first, part.iter().copied())?;
            if !self.send_unshared(encode(&events, &mut progress)).await {
                break;
            }
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests;
