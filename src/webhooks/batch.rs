//! The batches of events that receivers get.

mod merge;
mod online;
#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use futures_util::future::join_all;
use serde::Serialize;

use self::merge::merged;
use crate::events::{Cursor, Id, Item, ResetReason, item, reset_item};
use crate::model::{
    Entry, Epoch, History, Partition, PartitionSet, Partitions, Position, Timestamp,
};
use crate::store::{Store, StoreError};

/// The most entries of a batch.
pub(super) const MAX_ENTRIES: usize = 100;

/// The bytes of the digest that identify a webhook.
const ID_BYTES: usize = 16;

/// The bounds of a batch, as the store keeps them. They determine the events and their order, so that a successor of
/// the sender sends the same batch again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// The positions before the first entry of each partition.
    pub(super) from: Cursor,
    /// The positions of the last entry of each partition.
    pub(super) end: Cursor,
    /// Why the batch begins with `presence.reset`, if it does.
    pub(super) reset: Option<ResetReason>,
    /// Whether each user of another partition that joins a group was online, in the order of the entries.
    pub(super) online: Vec<bool>,
}

/// A batch with its entries, each with its partition. The entries of a partition have the order of its history; the
/// entries of several partitions have the order of their times.
#[derive(Clone, Debug)]
pub(super) struct FilledBatch {
    pub(super) batch: Batch,
    pub(super) entries: Vec<(Partition, Entry)>,
}

/// What a receiver gets: the same id and the same bytes with each attempt.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    pub(super) id: String,
    /// The id of the trace of all attempts, unless a request makes the attempt. It has the digits of the id.
    pub(super) trace: u128,
    pub(super) body: Bytes,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: Events<'a>,
}

#[derive(Serialize)]
struct Events<'a> {
    events: Vec<Item<'a>>,
}

/// The positions in the histories of all partitions, and the epoch if there is only one.
#[derive(Clone, Debug)]
struct Place {
    epoch: Epoch,
    positions: Vec<Position>,
}

/// The entries of a partition that follow a position, and the position before them.
struct Following {
    partition: Partition,
    epoch: Epoch,
    from: Position,
    reset: Option<ResetReason>,
    entries: Vec<Entry>,
}

/// The cursor after all events that the store has. Fails if a partition is unreachable.
pub(super) async fn newest(store: &Store) -> Result<Cursor, StoreError> {
    let partitions = store.partitions();
    let newest = store.newest(PartitionSet::all(partitions)).await;
    let newest = newest.into_iter().map(|(_, newest)| newest);
    let newest = newest.collect::<Result<Vec<_>, _>>()?;
    Ok(Place::at(newest).cursor())
}

/// The cursor after the newest events that an instance knows; `None` if it has not read a history yet.
pub(super) fn cursor_of(newest: &[Option<(Epoch, Position)>]) -> Option<Cursor> {
    let newest: Option<Vec<_>> = newest.iter().copied().collect();
    Some(Place::at(newest?).cursor())
}

impl Place {
    fn at(positions: Vec<(Epoch, Position)>) -> Self {
        Self {
            epoch: positions
                .first()
                .map_or(Epoch::default(), |(epoch, _)| *epoch),
            positions: positions
                .into_iter()
                .map(|(_, position)| position)
                .collect(),
        }
    }

    fn of(cursor: &Cursor, partitions: Partitions) -> Self {
        Self {
            epoch: cursor.epoch().unwrap_or_default(),
            positions: partitions.all().map(|each| cursor.position(each)).collect(),
        }
    }

    fn id(&self) -> Id<'_> {
        match self.positions[..] {
            [only] => Id::One(self.epoch, only),
            _ => Id::Many(&self.positions),
        }
    }

    fn cursor(&self) -> Cursor {
        match self.positions[..] {
            [only] => Cursor::one(self.epoch, only),
            _ => Cursor::many(self.positions.iter().copied().collect()),
        }
    }

    fn set(&mut self, partition: Partition, position: Position) {
        if let Some(place) = self.positions.get_mut(partition.index()) {
            *place = position;
        }
    }
}

impl Following {
    /// The entries of a partition after the position of `cursor`. If entries after it are gone, the result says so and
    /// begins after the gap.
    async fn of(store: &Store, cursor: &Cursor, partition: Partition) -> Result<Self, StoreError> {
        let mut from = cursor.position(partition);
        let mut history = store.history(partition, from, MAX_ENTRIES).await?;
        let mut reset = None;
        let is_other = cursor.epoch().is_some_and(|epoch| epoch != history.epoch);
        if is_other || history.newest < from {
            (from, reset) = (Position::START, Some(ResetReason::DataLost));
            history = store.history(partition, from, MAX_ENTRIES).await?;
        }
        if !history.continues(from) {
            from = match history.entries.first() {
                Some(first) => first.previous(),
                None => history.newest,
            };
            reset = reset.or(Some(ResetReason::HistoryGone));
        }
        Ok(Self {
            partition,
            epoch: history.epoch,
            from,
            reset,
            entries: without_gap(history.entries),
        })
    }
}

impl Batch {
    /// The batch after `cursor`: at most [`MAX_ENTRIES`] entries. `None` if there is nothing to send. If entries after
    /// the cursor are gone, the batch begins with a reset. A partition that is unreachable is left out.
    pub(super) async fn after(
        store: &Store,
        cursor: &Cursor,
    ) -> Result<Option<FilledBatch>, StoreError> {
        let partitions = store.partitions();
        let newest = store.newest(PartitionSet::all(partitions)).await;
        let mut changed = Vec::new();
        let mut failed = None;
        for (partition, newest) in newest {
            match newest {
                Ok((epoch, newest)) => {
                    let is_other = cursor.epoch().is_some_and(|known| known != epoch);
                    if is_other || newest != cursor.position(partition) {
                        changed.push(Following::of(store, cursor, partition));
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        if let (true, Some(error)) = (changed.is_empty(), failed) {
            return Err(error);
        }
        let following = join_all(changed).await.into_iter();
        let following = following.collect::<Result<Vec<_>, _>>()?;
        let mut filled = Self::of(cursor, partitions, following);
        if let Some(filled) = &mut filled {
            let (from, entries) = (&filled.batch.from, &mut filled.entries);
            filled.batch.online = online::read(store, from, entries).await;
            online::apply(partitions, &filled.batch.online, entries);
        }
        Ok(filled)
    }

    fn of(cursor: &Cursor, partitions: Partitions, all: Vec<Following>) -> Option<FilledBatch> {
        let mut from = Place::of(cursor, partitions);
        let (mut reset, mut entries) = (None, Vec::new());
        for each in all {
            from.set(each.partition, each.from);
            from.epoch = each.epoch;
            reset = reset.or(each.reset);
            let here = each.entries.into_iter();
            entries.extend(here.map(|entry| (each.partition, entry)));
        }
        let mut entries = merged(entries);
        entries.truncate(MAX_ENTRIES);
        if entries.is_empty() && reset.is_none() {
            return None;
        }
        let mut end = from.clone();
        for (partition, entry) in &entries {
            end.set(*partition, entry.position());
        }
        let batch = Self {
            from: from.cursor(),
            end: end.cursor(),
            reset,
            online: Vec::new(),
        };
        Some(FilledBatch { batch, entries })
    }

    /// The entries of this batch; `None` if the store no longer has all of them.
    pub(super) async fn filled(self, store: &Store) -> Result<Option<FilledBatch>, StoreError> {
        let partitions = store.partitions().all();
        let changed =
            partitions.filter(|each| self.from.position(*each) != self.end.position(*each));
        let read = changed.map(async |partition| {
            let from = self.from.position(partition);
            let history = store.history(partition, from, MAX_ENTRIES).await?;
            Ok(self.entries_of(partition, history))
        });
        let mut entries = Vec::new();
        for read in join_all(read).await {
            match read? {
                Some(read) => entries.extend(read),
                None => return Ok(None),
            }
        }
        let mut entries = merged(entries);
        online::apply(store.partitions(), &self.online, &mut entries);
        Ok(Some(FilledBatch {
            batch: self,
            entries,
        }))
    }

    fn entries_of(
        &self,
        partition: Partition,
        history: History,
    ) -> Option<Vec<(Partition, Entry)>> {
        let end = self.end.position(partition);
        let is_other = self
            .from
            .epoch()
            .is_some_and(|epoch| epoch != history.epoch);
        if is_other || !history.continues(self.from.position(partition)) {
            return None;
        }
        let mut entries = without_gap(history.entries);
        entries.retain(|entry| entry.position() <= end);
        let is_whole = entries.last().map(Entry::position) == Some(end);
        let entries = entries.into_iter().map(|entry| (partition, entry));
        is_whole.then(|| entries.collect())
    }

    /// A batch without an event that begins at `cursor` with a reset.
    pub(super) fn reset_at(cursor: Cursor, reason: ResetReason) -> FilledBatch {
        let batch = Self {
            from: cursor.clone(),
            end: cursor,
            reset: Some(reason),
            online: Vec::new(),
        };
        FilledBatch {
            batch,
            entries: Vec::new(),
        }
    }

    /// Reads the text of a batch of a store with this number of partitions.
    pub(super) fn parse(text: &str, partitions: Partitions) -> Option<Self> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [from, end, reset, online] = parts[..] else {
            return None;
        };
        let reset = match reset {
            "-" => None,
            reason => Some(ResetReason::named(reason)?),
        };
        Some(Self {
            from: Cursor::parse(from, partitions).ok()?,
            end: Cursor::parse(end, partitions).ok()?,
            reset,
            online: match online {
                "-" => Vec::new(),
                flags => flags.chars().map(|flag| flag == '1').collect(),
            },
        })
    }
}

/// The entries before the first gap. The batch after them begins with a reset.
fn without_gap(mut entries: Vec<Entry>) -> Vec<Entry> {
    let gap = entries
        .windows(2)
        .position(|pair| pair[1].previous() != pair[0].position());
    entries.truncate(gap.map_or(entries.len(), |before| before + 1));
    entries
}

impl FilledBatch {
    /// The number of events that streams would carry. Entries of an unknown kind do not count.
    pub(super) fn events(&self) -> usize {
        let is_known = |(_, entry): &&(Partition, Entry)| !matches!(entry, Entry::Unknown { .. });
        self.entries.iter().filter(is_known).count()
    }

    /// When the first entry was written.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.entries.first().map(|(_, entry)| entry.at())
    }

    /// The webhook of this batch; `None` if it has no message.
    pub(super) fn webhook(&self, receiver: &str, partitions: Partitions) -> Option<Webhook> {
        let Batch {
            from, end, reset, ..
        } = &self.batch;
        let mut events = Vec::new();
        events.extend(reset.map(|reason| reset_item(from, reason)));
        let mut place = Place::of(from, partitions);
        for (partition, entry) in &self.entries {
            place.set(*partition, entry.position());
            events.extend(item(place.id(), entry));
        }
        if events.is_empty() {
            return None;
        }
        let newest = partitions.all().map(|each| end.position(each).millis).max();
        let body = Body {
            r#type: "presence.events",
            timestamp: Timestamp::from_millis(newest.unwrap_or_default()),
            data: Events { events },
        };
        // Serializing these plain structs cannot fail.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let id = digest(&SHA256, format!("{receiver}\n{}", self.batch).as_bytes());
        let id = id.as_ref().first_chunk::<ID_BYTES>();
        let id = id.copied().map_or(0, u128::from_be_bytes);
        Some(Webhook {
            id: format!("msg_{id:032x}"),
            trace: id,
            body: body.into(),
        })
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reset = self.reset.map_or("-", ResetReason::as_str);
        write!(f, "{} {} {reset} ", self.from, self.end)?;
        if self.online.is_empty() {
            return f.write_str("-");
        }
        let mut flags = self.online.iter();
        flags.try_for_each(|flag| f.write_str(if *flag { "1" } else { "0" }))
    }
}
