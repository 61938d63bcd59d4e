//! The partitions of the users.

use super::id::{GroupId, UserId};

/// The number of slots of a Redis Cluster, as a power of two.
const SLOTS_LOG2: u8 = 14;

/// One of the parts into which a store divides the users. The history, the deadlines and the held departures of a
/// partition are apart from the ones of all other partitions. The id of a user decides the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(u8);

impl Partition {
    /// The first partition. A store with one partition has only this one.
    pub const FIRST: Self = Self(0);

    /// The number of the partition, from 0 on.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// How many partitions a store has: 1, 16, 32, 64, 128 or 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions {
    log2: u8,
}

impl Partitions {
    /// One partition, which has all users.
    pub const ONE: Self = Self { log2: 0 };

    /// The most partitions.
    pub const MOST: Self = Self { log2: 8 };

    /// `None` unless `count` is 1, 16, 32, 64, 128 or 256.
    pub fn new(count: u16) -> Option<Self> {
        let all = [0, 4, 5, 6, 7, 8].map(|log2| Self { log2 });
        all.into_iter()
            .find(|each| each.count() == usize::from(count))
    }

    /// The binary logarithm of the number of partitions: 0, or from 4 to 8.
    pub fn log2(self) -> u8 {
        self.log2
    }

    /// The number of partitions, from 1 to 256.
    pub fn count(self) -> usize {
        1 << self.log2
    }

    /// All partitions in order.
    pub fn all(self) -> impl ExactSizeIterator<Item = Partition> + Clone {
        (0..self.count()).map(|index| Partition(low_byte(index)))
    }

    /// The partition with this number; `None` if there is none.
    pub fn get(self, index: usize) -> Option<Partition> {
        (index < self.count()).then(|| Partition(low_byte(index)))
    }

    /// The partition of a user.
    pub fn of(self, user: &UserId) -> Partition {
        self.of_id(user.as_str())
    }

    /// The partition of a group: that of a user with the same id.
    pub fn of_group(self, group: &GroupId) -> Partition {
        self.of_id(group.as_str())
    }

    fn of_id(self, id: &str) -> Partition {
        if self == Self::ONE {
            return Partition::FIRST;
        }
        self.at_slot(slot_of(id.as_bytes()))
    }

    /// The partition of the users in a slot of a Redis Cluster. There are 16,384 slots.
    pub fn at_slot(self, slot: u16) -> Partition {
        Partition(low_byte(usize::from(slot >> (SLOTS_LOG2 - self.log2))))
    }

    /// The first of the slots of a partition in a Redis Cluster. All keys of the partition are in this slot.
    pub fn slot(self, partition: Partition) -> u16 {
        u16::from(partition.0) << (SLOTS_LOG2 - self.log2)
    }
}

impl std::fmt::Display for Partitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.count().fmt(f)
    }
}

/// A set of partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionSet([u64; 4]);

impl PartitionSet {
    /// All partitions of a store.
    pub fn all(partitions: Partitions) -> Self {
        partitions.all().collect()
    }

    /// Adds a partition.
    pub fn insert(&mut self, partition: Partition) {
        let (word, bit) = place(partition);
        self.0[word] |= bit;
    }

    /// Removes a partition.
    pub fn remove(&mut self, partition: Partition) {
        let (word, bit) = place(partition);
        self.0[word] &= !bit;
    }

    /// Whether the set has the partition.
    pub fn contains(&self, partition: Partition) -> bool {
        let (word, bit) = place(partition);
        self.0[word] & bit != 0
    }

    /// Whether the set has no partition.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// The partitions of this set and of another one.
    pub fn union(&self, other: &Self) -> Self {
        let mut both = *self;
        for (word, others) in both.0.iter_mut().zip(other.0) {
            *word |= others;
        }
        both
    }

    /// The partitions in order.
    pub fn iter(&self) -> impl Iterator<Item = Partition> {
        let set = *self;
        Partitions::MOST
            .all()
            .filter(move |partition| set.contains(*partition))
    }
}

impl FromIterator<Partition> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = Partition>>(partitions: I) -> Self {
        let mut set = Self::default();
        partitions
            .into_iter()
            .for_each(|partition| set.insert(partition));
        set
    }
}

impl Extend<Partition> for PartitionSet {
    fn extend<I: IntoIterator<Item = Partition>>(&mut self, partitions: I) {
        partitions
            .into_iter()
            .for_each(|partition| self.insert(partition));
    }
}

impl From<Partition> for PartitionSet {
    fn from(partition: Partition) -> Self {
        std::iter::once(partition).collect()
    }
}

/// The word of a set that has the bit of a partition, and the bit.
fn place(partition: Partition) -> (usize, u64) {
    (partition.index() / 64, 1 << (partition.index() % 64))
}

fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

/// The slot of `bytes` in a Redis Cluster: CRC-16/XMODEM modulo 16,384.
pub fn slot_of(bytes: &[u8]) -> u16 {
    let crc = bytes.iter().fold(0_u16, |crc, byte| {
        let [high, _] = crc.to_be_bytes();
        (crc << 8) ^ CRC[usize::from(high ^ byte)]
    });
    crc % (1 << SLOTS_LOG2)
}

/// The remainder of each byte by the polynomial of CRC-16/XMODEM.
const CRC: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc >> 15;
            crc = (crc << 1) ^ (0x1021 * carry);
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every() -> impl Iterator<Item = Partitions> {
        (0..=1_000).filter_map(Partitions::new)
    }

    #[test]
    fn the_number_of_partitions_is_1_16_32_64_128_or_256() {
        let counts: Vec<_> = every().map(Partitions::count).collect();
        assert_eq!(counts, [1, 16, 32, 64, 128, 256]);
    }

    #[test]
    fn the_checksum_is_the_one_of_redis_cluster() {
        // The test vector in the specification of Redis Cluster, and the values of CLUSTER KEYSLOT.
        assert_eq!(slot_of(b"123456789"), 0x31c3);
        assert_eq!((slot_of(b"foo"), slot_of(b"bar")), (12_182, 5_061));
    }

    #[test]
    fn each_partition_has_its_own_slots() {
        for partitions in every() {
            let slots: Vec<_> = partitions.all().map(|each| partitions.slot(each)).collect();
            let width = 16_384 / partitions.count();
            let expected = (0..16_384).step_by(width);
            assert!(slots.iter().map(|slot| usize::from(*slot)).eq(expected));
        }
    }

    proptest! {
        #[test]
        fn a_user_is_in_the_partition_with_its_slot(user in "\\PC{1,30}") {
            let user = UserId::new(&user).expect("an id");
            let slot = slot_of(user.as_str().as_bytes());
            for partitions in every() {
                let last = partitions.all().filter(|each| partitions.slot(*each) <= slot).last();
                prop_assert_eq!(Some(partitions.of(&user)), last);
                let index = partitions.of(&user).index();
                prop_assert_eq!(partitions.get(index), last);
            }
            prop_assert_eq!(Partitions::MOST.get(256), None);
        }

        #[test]
        fn a_set_has_exactly_the_inserted_partitions(
            one in proptest::collection::btree_set(0_usize..256, 0..20),
            other in proptest::collection::btree_set(0_usize..256, 0..20),
        ) {
            let set = |indices: &std::collections::BTreeSet<usize>| {
                let partitions = indices.iter().filter_map(|index| Partitions::MOST.get(*index));
                partitions.collect::<PartitionSet>()
            };
            let both = set(&one).union(&set(&other));
            let found: Vec<_> = both.iter().map(Partition::index).collect();
            prop_assert_eq!(found, one.union(&other).copied().collect::<Vec<_>>());
            prop_assert_eq!(set(&one).is_empty(), one.is_empty());
        }
    }
}
