//! The partitions of the store, the names of their keys, and the record of their number.

use std::sync::atomic::{AtomicBool, Ordering};

use super::keys::Keys;
use crate::model::{GroupId, MoveRole, Partition, Partitions, UserId, slot_of};
use crate::store::error::StoreError;

/// The version of the record. Another version has other keys.
const VERSION: &str = "1:";

/// What follows the number of partitions while the store is filled by a move, and after its data moved to another
/// store.
const FILLING: &str = " filling";
const MOVED: &str = " moved";

/// The partitions, each with the names of its keys.
///
/// Every partition has a record of the number of partitions. Stores with 16 and with 64 partitions share names of keys,
/// so an instance with another number must not make a single call.
#[derive(Debug)]
pub(in crate::store::redis) struct Layout {
    partitions: Partitions,
    keys: Box<[Keys]>,
    record: String,
    other_record: String,
    role: MoveRole,
    /// Whether the record of the first partition was read, and is not another one.
    is_known: AtomicBool,
    /// Whether a move fills this store, or has ended.
    is_target: AtomicBool,
    /// Whether a move has ended here.
    has_arrived: AtomicBool,
}

impl Layout {
    /// A store whose names begin with `prefix`.
    pub(in crate::store::redis) fn new(
        prefix: &str,
        partitions: Partitions,
        role: MoveRole,
    ) -> Self {
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
            role,
            is_known: AtomicBool::new(false),
            is_target: AtomicBool::new(false),
            has_arrived: AtomicBool::new(false),
        }
    }

    pub(in crate::store::redis) fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// The name of the record of a store with one partition instead of several, or with several instead of one.
    pub(in crate::store::redis) fn other_record(&self) -> &str {
        &self.other_record
    }

    /// Whether the store is known to have this number of partitions.
    pub(in crate::store::redis) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// Notes that the store has this number of partitions.
    pub(in crate::store::redis) fn note_known(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// Notes that a move to this store has ended.
    pub(in crate::store::redis) fn note_arrived(&self) {
        self.has_arrived.store(true, Ordering::Relaxed);
        self.is_target.store(true, Ordering::Relaxed);
    }

    /// The text to write where the record is missing, and the only other text with which the store is accepted.
    pub(in crate::store::redis) fn records(&self) -> [String; 2] {
        let record = &self.record;
        let [plain, filling] = [record.clone(), format!("{record}{FILLING}")];
        match self.role {
            MoveRole::Only => [plain.clone(), plain],
            MoveRole::Former => [plain, self.moved_record()],
            MoveRole::Next if self.has_arrived.load(Ordering::Relaxed) => [plain, filling],
            MoveRole::Next => [filling, plain],
        }
    }

    /// The text of the record after a move to this store.
    pub(in crate::store::redis) fn plain_record(&self) -> &str {
        &self.record
    }

    /// The text of the record after the data moved to another store.
    pub(in crate::store::redis) fn moved_record(&self) -> String {
        format!("{}{MOVED}", self.record)
    }

    /// Whether the store may be used although it has this record. A store to move to must be new: data of users that
    /// are gone would be announced.
    pub(in crate::store::redis) fn accepts(&self, record: &[u8]) -> bool {
        let [lacking, other] = self.records();
        if self.role != MoveRole::Next {
            return record == lacking.as_bytes() || record == other.as_bytes();
        }
        if record.ends_with(FILLING.as_bytes()) && record.starts_with(self.record.as_bytes()) {
            self.is_target.store(true, Ordering::Relaxed);
        }
        self.is_target.load(Ordering::Relaxed)
            && [lacking, other]
                .iter()
                .any(|each| each.as_bytes() == record)
    }

    /// The names of the keys of a partition.
    pub(in crate::store::redis) fn keys(&self, partition: Partition) -> &Keys {
        // Partitions of other stores do not occur, because each process has one number of partitions.
        self.keys.get(partition.index()).unwrap_or(&self.keys[0])
    }

    /// The names of the keys of the partition of `user`.
    pub(in crate::store::redis) fn of(&self, user: &UserId) -> &Keys {
        self.keys(self.partitions.of(user))
    }

    /// The names of the keys of the partition of `group`.
    pub(in crate::store::redis) fn of_group(&self, group: &GroupId) -> &Keys {
        self.keys(self.partitions.of_group(group))
    }

    /// The names of the keys of the partition whose hash tag is in `name`. The name may be any text.
    pub(in crate::store::redis) fn of_name(&self, name: &[u8]) -> Option<&Keys> {
        if self.partitions == Partitions::ONE {
            return Some(&self.keys[0]);
        }
        let begin = name.iter().position(|byte| *byte == b'{')? + 1;
        let tag = &name[begin..];
        let tag = &tag[..tag.iter().position(|byte| *byte == b'}')?];
        Some(self.keys(self.partitions.at_slot(slot_of(tag))))
    }

    /// The error for a store with another record.
    pub(in crate::store::redis) fn refusal(&self, record: &[u8]) -> StoreError {
        let record = String::from_utf8_lossy(record);
        let count = record.strip_prefix(VERSION);
        let (count, state) = match count.and_then(|rest| rest.find(' ').map(|at| rest.split_at(at)))
        {
            Some((count, state)) => (Some(count), state),
            None => (count, ""),
        };
        let count = count.and_then(|count| count.parse().ok());
        StoreError::Unfit(match count.and_then(Partitions::new) {
            Some(count) if count == self.partitions => self.state_refusal(state).to_owned(),
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

    /// Why a store with the right number of partitions is refused.
    fn state_refusal(&self, state: &str) -> &'static str {
        match (self.role, state) {
            (_, FILLING) => "a move still fills this store; wait until the move has ended",
            (MoveRole::Next, MOVED) => {
                "the data of the next store moved to another store; delete its keys first"
            }
            (_, MOVED) => "the data moved to another store; set REDIS_URL to that store",
            (MoveRole::Next, "") => {
                "the next store is in use; delete its keys first, unless a move to it has ended"
            }
            _ => "the store has a layout that this version does not know",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(count: u16) -> Layout {
        let partitions = Partitions::new(count).expect("a number of partitions");
        Layout::new("presence:", partitions, MoveRole::Only)
    }

    #[test]
    fn the_role_in_a_move_decides_which_records_are_accepted() {
        let of = |role| Layout::new("presence:", Partitions::ONE, role);
        let accepts = |layout: &Layout| {
            ["1:1", "1:1 filling", "1:1 moved", "1:16 moved", "1:1 other"]
                .map(|record| layout.accepts(record.as_bytes()))
        };
        assert_eq!(
            accepts(&of(MoveRole::Only)),
            [true, false, false, false, false]
        );
        assert_eq!(
            accepts(&of(MoveRole::Former)),
            [true, false, true, false, false]
        );
        let next = of(MoveRole::Next);
        assert_eq!(accepts(&next), [false, true, false, false, false]);
        // Another instance has ended the move.
        assert!(next.accepts(b"1:1"));
        let next = of(MoveRole::Next);
        next.note_arrived();
        assert_eq!(accepts(&next), [true, true, false, false, false]);
        assert_eq!(next.records()[0], "1:1");
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
                "1:16 filling",
                "a move still fills this store; wait until the move has ended",
            ),
            (
                "1:16 moved",
                "the data moved to another store; set REDIS_URL to that store",
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
