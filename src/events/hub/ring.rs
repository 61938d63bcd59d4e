//! The recent events in memory. Every resume is answered from the ring.

mod links;
mod reading;

use std::collections::{HashMap, VecDeque};

use self::links::{link, unlink};
use super::kept::{Bounds, Change, Kept, USER_BYTES};
use super::part::{Numbers, Part};
use crate::events::sse::cursor::Cursor;
use crate::events::sse::frame::Frame;
use crate::events::sse::payload::ResetReason;
use crate::model::{
    Entry, Epoch, GroupId, Partition, PartitionSet, Partitions, Position, Timestamp, UserId,
};

/// Newest entries that keep their frame, for streams that missed only these entries.
const FRAMES: usize = 512;

/// Old entries that one new entry evicts at most, so that each push is short.
const EVICTED_PER_PUSH: usize = 8;

/// The newest entries of the histories of all partitions, as this instance received them. The entries of each partition
/// are in order and without a gap.
///
/// Each entry has a number that never changes. Each entry links to the previous entry of the same
/// user, so that the entries of one user are found without a scan.
///
/// A partition whose history was lost *restarts*: all its entries are void, and the ring goes on with a new generation.
#[derive(Debug)]
pub(crate) struct Ring {
    partitions: Partitions,
    bounds: Bounds,
    parts: Box<[Part]>,
    entries: VecDeque<Kept>,
    /// The number of the first entry.
    first: u64,
    /// The number of restarts.
    generation: u64,
    newest_of: HashMap<UserId, u64>,
    newest_of_group: HashMap<GroupId, u64>,
    /// The numbers of the entries about groups.
    about_groups: VecDeque<u64>,
    /// The frames of the newest entries. An entry has no frame if no subscriber was interested in
    /// it.
    frames: VecDeque<Option<Frame>>,
    bytes: usize,
}

/// What a restart freed. Dropping it can take long.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    _entries: VecDeque<Kept>,
    _newest_of: HashMap<UserId, u64>,
}

impl Ring {
    /// Returns an empty ring that knows none of its partitions.
    pub(crate) fn new(partitions: Partitions, bounds: Bounds) -> Self {
        let is_only = partitions == Partitions::ONE;
        Self {
            partitions,
            bounds,
            parts: partitions.all().map(|_| Part::unknown(is_only)).collect(),
            entries: VecDeque::new(),
            first: 0,
            generation: 0,
            newest_of: HashMap::new(),
            newest_of_group: HashMap::new(),
            about_groups: VecDeque::new(),
            frames: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Returns how the users are divided.
    pub(crate) fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// Makes all entries of a partition void, and then begins as [`Ring::begin`] does.
    pub(crate) fn restart(
        &mut self,
        partition: Partition,
        floor: Position,
        reason: ResetReason,
    ) -> Freed {
        self.generation += 1;
        self.begin(partition, floor);
        let part = &mut self.parts[partition.index()];
        (part.generation, part.reason) = (self.generation, reason);
        // Their `id` has the position before the restart.
        self.frames.clear();
        if self.partitions != Partitions::ONE {
            return Freed::default();
        }
        self.first = self.end();
        self.bytes = 0;
        self.newest_of_group.clear();
        self.about_groups.clear();
        Freed {
            _entries: std::mem::take(&mut self.entries),
            _newest_of: std::mem::take(&mut self.newest_of),
        }
    }

    /// Sets the position before the first entry of a partition that was never known. The partition is unknown until
    /// [`Ring::know`].
    pub(crate) fn begin(&mut self, partition: Partition, floor: Position) {
        let end = self.end();
        self.parts[partition.index()].begin(end, floor);
    }

    /// Makes a partition known, after all its first entries were pushed.
    pub(crate) fn know(&mut self, partition: Partition, epoch: Epoch) {
        self.parts[partition.index()].epoch = Some(epoch);
        // Their `id` lacks the position of this partition.
        self.frames.clear();
    }

    /// Appends a new entry, and evicts entries beyond the bounds. Returns its number.
    pub(crate) fn push(&mut self, kept: Kept, frame: Option<Frame>) -> u64 {
        let (number, at) = (self.end(), kept.at);
        let part = &mut self.parts[kept.partition.index()];
        part.numbers.push(number);
        part.newest = kept.position;
        self.append(kept);
        if self.frames.len() == FRAMES {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
        self.evict(at);
        number
    }

    /// Evicts some entries beyond the bounds.
    fn evict(&mut self, now: Timestamp) {
        for _ in 0..EVICTED_PER_PUSH {
            let too_old = |kept: &Kept| kept.at < now.minus(self.bounds.span);
            let is_full = self.bytes >= self.bounds.bytes;
            if !is_full && !self.entries.front().is_some_and(too_old) {
                return;
            }
            self.pop();
        }
    }

    fn append(&mut self, mut kept: Kept) {
        let number = self.end();
        self.bytes += self.entry_bytes();
        match &mut kept.change {
            Change::User(user, change) => {
                // All entries of a user share one copy of its id.
                let id_bytes = USER_BYTES + user.as_str().len();
                let (distance, is_new) = link(&mut self.newest_of, user, number);
                kept.distance = distance;
                self.bytes += change.memory() + if is_new { id_bytes } else { 0 };
            }
            Change::Group(event) => {
                let id_bytes = USER_BYTES + event.group.as_str().len();
                let mut group = event.group.clone();
                let (distance, is_new) = link(&mut self.newest_of_group, &mut group, number);
                kept.distance = distance;
                self.bytes += event.bytes() + if is_new { id_bytes } else { 0 };
                self.about_groups.push_back(number);
            }
            Change::Unknown => {}
        }
        self.entries.push_back(kept);
    }

    fn pop(&mut self) {
        let Some(kept) = self.entries.pop_front() else {
            return;
        };
        self.bytes -= self.entry_bytes();
        match &kept.change {
            Change::User(user, change) => {
                self.bytes -= change.memory();
                if unlink(&mut self.newest_of, user, self.first) {
                    self.bytes -= USER_BYTES + user.as_str().len();
                }
            }
            Change::Group(event) => {
                self.bytes -= event.bytes();
                if unlink(&mut self.newest_of_group, &event.group, self.first) {
                    self.bytes -= USER_BYTES + event.group.as_str().len();
                }
                self.about_groups.pop_front();
            }
            Change::Unknown => {}
        }
        let part = &mut self.parts[kept.partition.index()];
        if self.first >= part.valid_from {
            part.numbers.pop();
            part.floor = kept.position;
        }
        self.first += 1;
        while self.frames.len() > self.entries.len() {
            self.frames.pop_front();
        }
    }

    fn entry_bytes(&self) -> usize {
        size_of::<Kept>() + Numbers::bytes(self.partitions == Partitions::ONE)
    }

    /// Returns the time of the oldest entry.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.entries.front().map(|kept| kept.at)
    }

    /// Returns the number of the first entry.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number that the next entry gets.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Returns the number of restarts.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the generation in which a partition restarted last.
    pub(crate) fn generation_of(&self, partition: Partition) -> u64 {
        self.part(partition).generation
    }

    /// Returns why a partition restarted last.
    pub(crate) fn reason_of(&self, partition: Partition) -> ResetReason {
        self.part(partition).reason
    }

    pub(super) fn part(&self, partition: Partition) -> &Part {
        &self.parts[partition.index()]
    }

    /// Returns the position of a partition before its first entry.
    pub(crate) fn floor(&self, partition: Partition) -> Position {
        self.part(partition).floor
    }

    /// Returns the data set of a partition and the position of its newest entry, if the partition is known.
    pub(crate) fn newest(&self, partition: Partition) -> Option<(Epoch, Position)> {
        let part = self.part(partition);
        Some((part.epoch?, part.newest))
    }

    /// Whether an entry of a watched partition was lost or added since `generation`. Then returns why.
    pub(crate) fn restarted_since(
        &self,
        generation: u64,
        watched: &PartitionSet,
    ) -> Option<ResetReason> {
        if self.generation == generation {
            return None;
        }
        let mut watched = self.partitions.all().filter(|each| watched.contains(*each));
        let restarted = watched.find(|each| self.part(*each).generation > generation);
        Some(self.part(restarted?).reason)
    }

    /// Returns the last entry of a partition up to `position`, and the first one after it: a number each. Fails if the
    /// ring begins later, or if no entry has exactly this position.
    pub(super) fn around(
        &self,
        partition: Partition,
        position: Position,
    ) -> Result<(Option<u64>, Option<u64>), NotInRing> {
        let part = self.part(partition);
        if position < part.floor {
            return Err(NotInRing::TooOld);
        }
        let after = part.numbers.partition_point(|number| {
            self.get(number)
                .is_some_and(|kept| kept.position <= position)
        });
        let before = self.position_before(part, after);
        if before != position {
            let is_start = before == Position::START;
            return Err(if is_start {
                NotInRing::Lost
            } else {
                NotInRing::Unknown
            });
        }
        let last = after
            .checked_sub(1)
            .and_then(|index| part.numbers.get(index));
        Ok((last, part.numbers.get(after)))
    }

    /// Whether the ring received exactly this entry.
    pub(crate) fn has(&self, partition: Partition, entry: &Entry) -> bool {
        let (part, position) = (self.part(partition), entry.position());
        let after = part.numbers.partition_point(|number| {
            self.get(number)
                .is_some_and(|kept| kept.position <= position)
        });
        match after.checked_sub(1) {
            Some(index) => {
                self.position_before(part, after) == position
                    && self.position_before(part, index) == entry.previous()
            }
            // The predecessor of the floor is unknown.
            None => position == part.floor,
        }
    }

    /// Returns the position before the entry of a partition with this index.
    fn position_before(&self, part: &Part, index: usize) -> Position {
        let before = index
            .checked_sub(1)
            .and_then(|before| self.get(part.numbers.get(before)?));
        before.map_or(part.floor, |kept| kept.position)
    }

    /// Returns the position of each partition before the entry with this number.
    pub(crate) fn positions_before(&self, number: u64) -> Vec<Position> {
        let parts = self.parts.iter();
        let positions = parts.map(|part| self.position_before(part, part.numbers.below(number)));
        positions.collect()
    }

    /// Returns the cursor of a client that received all entries before this number.
    pub(crate) fn cursor_before(&self, number: u64) -> Cursor {
        match (self.partitions, self.parts.first()) {
            (Partitions::ONE, Some(part)) => {
                let before = self.position_before(part, part.numbers.below(number));
                Cursor::one(part.epoch.unwrap_or_default(), before)
            }
            _ => Cursor::many(self.positions_before(number).into_iter().collect()),
        }
    }

    fn get(&self, number: u64) -> Option<&Kept> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get(index)
    }

    pub(super) fn valid(&self, number: u64) -> Option<&Kept> {
        let kept = self.get(number)?;
        (number >= self.part(kept.partition).valid_from).then_some(kept)
    }
}

/// Why a position cannot be resumed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInRing {
    /// The ring begins later.
    TooOld,
    /// No entry has this position.
    Unknown,
    /// No entry has this position, and the next one is the first of its data set.
    Lost,
}

#[cfg(test)]
mod tests;
