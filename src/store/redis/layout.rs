//! The partitions of the store, the names of their keys, and the record of their number.

use std::sync::atomic::{AtomicBool, Ordering};

use super::keys::Keys;
use crate::model::{GroupId, Partition, Partitions, UserId, slot_of};
use crate::store::error::StoreError;

/// The version of the record. Another version has other keys.
const VERSION: &str = "1:";

/// The partitions, each with the names of its keys.
///
/// Every partition has a record of the number of partitions. Stores with 16 and with 64 partitions share names of keys, so
/// an instance with another number must not call a store once.
#[derive(Debug)]
pub(super) struct Layout {
    partitions: Partitions,
    keys: Box<[Keys]>,
    record: String,
    other_record: String,
    /// Whether the record of the first partition was read, and is not another one.
    is_known: AtomicBool,
}

impl Layout {
    /// A store whose names begin with `prefix`.
    pub(super) fn new(prefix: &str, partitions: Partitions) -> Self {
        let keys = partitions.all();
        let keys = keys.map(|partition| Keys::new(prefix, partitions, partition));
        let other = match partitions {
            Partitions::ONE => Partitions::MOST,
            _ => Partitions::ONE,
        };
        Self {
            partitions,
            keys: keys.collect(),
            record: format!("{VERSION}{partitions}"),
            other_record: Keys::new(prefix, other, Partition::FIRST).layout,
            is_known: AtomicBool::new(false),
        }
    }

    pub(super) fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// The name of the record of a store with one partition instead of several, or with several instead of one.
    pub(super) fn other_record(&self) -> &str {
        &self.other_record
    }

    /// Whether the number is known to be the one of the store.
    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// Notes that the number is the one of the store.
    pub(super) fn note_known(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// The text of the record.
    pub(super) fn record(&self) -> &str {
        &self.record
    }

    /// The names of the keys of a partition.
    pub(super) fn keys(&self, partition: Partition) -> &Keys {
        // Partitions of other stores do not occur, because each process has one number of partitions.
        self.keys.get(partition.index()).unwrap_or(&self.keys[0])
    }

    /// The names of the keys of the partition of `user`.
    pub(super) fn of(&self, user: &UserId) -> &Keys {
        self.keys(self.partitions.of(user))
    }

    /// The names of the keys of the partition of `group`.
    pub(super) fn of_group(&self, group: &GroupId) -> &Keys {
        self.keys(self.partitions.of_group(group))
    }

    /// The names of the keys of the partition whose hash tag is in `name`. The name may be any text.
    pub(super) fn of_name(&self, name: &[u8]) -> Option<&Keys> {
        if self.partitions == Partitions::ONE {
            return Some(&self.keys[0]);
        }
        let begin = name.iter().position(|byte| *byte == b'{')? + 1;
        let tag = &name[begin..];
        let tag = &tag[..tag.iter().position(|byte| *byte == b'}')?];
        Some(self.keys(self.partitions.at_slot(slot_of(tag))))
    }

    /// The error for a store with another record.
    pub(super) fn refusal(&self, record: &[u8]) -> StoreError {
        let record = String::from_utf8_lossy(record);
        let count = record
            .strip_prefix(VERSION)
            .and_then(|count| count.parse().ok());
        StoreError::Unfit(match count.and_then(Partitions::new) {
            Some(Partitions::ONE) => format!(
                "the store has 1 partition, but PRESENCE_PARTITIONS is {}",
                self.partitions
            ),
            Some(count) => format!(
                "the store has {count} partitions, but PRESENCE_PARTITIONS is {}",
                self.partitions
            ),
            None => {
                format!("the store has the layout {record:?}, which this version does not know")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(count: u16) -> Layout {
        let partitions = Partitions::new(count).expect("a number of partitions");
        Layout::new("presence:", partitions)
    }

    #[test]
    fn a_name_is_of_the_partition_with_its_tag() {
        let layout = layout(64);
        for partition in layout.partitions().all() {
            let keys = layout.keys(partition);
            for name in [&keys.bus, &keys.deadlines] {
                let found = layout.of_name(name.as_bytes());
                assert_eq!(found.map(|keys| keys.partition), Some(partition));
            }
        }
        for name in ["presence:bus", "presence:{1bz", "}{", ""] {
            assert!(layout.of_name(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn the_refusal_of_another_layout_names_both_numbers() {
        for (record, why) in [
            (
                "1:64",
                "the store has 64 partitions, but PRESENCE_PARTITIONS is 16",
            ),
            (
                "1:1",
                "the store has 1 partition, but PRESENCE_PARTITIONS is 16",
            ),
            (
                "1:17",
                "the store has the layout \"1:17\", which this version does not know",
            ),
            (
                "2:16",
                "the store has the layout \"2:16\", which this version does not know",
            ),
        ] {
            assert_eq!(layout(16).refusal(record.as_bytes()).cause(), why);
        }
    }
}
