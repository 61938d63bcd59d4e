//! The names of the keys of the service in Redis, computed without the code of the service.

use std::env;

/// The prefix of all names if the settings have none.
const PREFIX: &str = "presence:";

/// The environment variable with the number of partitions of the instances on Redis.
const PARTITIONS_VARIABLE: &str = "PRESENCE_TEST_PARTITIONS";

/// The environment variable with the URL of the Redis Cluster that the tests share.
const CLUSTER_VARIABLE: &str = "PRESENCE_TEST_CLUSTER";

/// The partitions on the shared cluster, unless the tests set another number.
const PARTITIONS_ON_CLUSTER: usize = 16;

/// The beginning of the ids of users that show only that an event has passed.
pub(crate) const STRANGER: &str = "passer-by-";

/// The hash slots of a Redis Cluster.
pub(crate) const SLOTS: usize = 16_384;

/// The digits of hash tags.
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The names of the keys of one deployment.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
    /// The hash tag of each partition; none with one partition.
    tags: Vec<String>,
}

impl Default for Names {
    /// The default prefix, and the partitions of the tests.
    fn default() -> Self {
        Self::new(PREFIX, partitions_of_tests())
    }
}

impl Names {
    /// The names with `prefix` and 1, 16, 32, 64, 128 or 256 partitions.
    pub fn new(prefix: &str, partitions: usize) -> Self {
        let tags = match partitions {
            1 => Vec::new(),
            _ => tags(partitions),
        };
        let prefix = prefix.to_owned();
        Self { prefix, tags }
    }

    /// The names with another prefix or another number of partitions, if given.
    pub fn with(self, prefix: Option<&str>, partitions: Option<usize>) -> Self {
        let partitions = partitions.unwrap_or_else(|| self.partitions());
        Self::new(prefix.unwrap_or(&self.prefix), partitions)
    }

    /// The number of partitions.
    pub fn partitions(&self) -> usize {
        self.tags.len().max(1)
    }

    /// The partition of a user.
    pub fn partition_of(&self, user: &str) -> usize {
        slot_of(user) * self.partitions() / SLOTS
    }

    /// The hash slot of all keys of a partition. Only with more than one partition.
    pub fn slot(&self, partition: usize) -> u16 {
        let slot = slot_of(&self.tags[partition]);
        u16::try_from(slot).expect("slots have 14 bits")
    }

    /// The key `name` of the partition of `user`.
    pub fn key(&self, name: &str, user: &str) -> String {
        self.of_partition(self.partition_of(user), name)
    }

    /// The key about `user` of a kind such as `user` or `conns`.
    pub fn of_user(&self, kind: &str, user: &str) -> String {
        self.key(&format!("{kind}:{user}"), user)
    }

    /// The key `name` of each partition.
    pub fn all(&self, name: &str) -> Vec<String> {
        let partitions = 0..self.partitions();
        partitions
            .map(|partition| self.of_partition(partition, name))
            .collect()
    }

    /// The pattern that matches `name` in all partitions. `name` may have wildcards.
    pub fn pattern(&self, name: &str) -> String {
        let tag = if self.tags.is_empty() { "" } else { "{*}:" };
        format!("{}{tag}{name}", self.prefix)
    }

    /// The command that sends a message to a channel of the service.
    pub fn publish(&self) -> &'static str {
        if self.tags.is_empty() {
            "PUBLISH"
        } else {
            "SPUBLISH"
        }
    }

    /// `count` users in the partition of `user`, without `user`.
    pub fn neighbours(&self, user: &str, count: usize) -> Vec<String> {
        let partition = self.partition_of(user);
        let others = (1..).map(|number| format!("{user}-{number}"));
        others
            .filter(|other| self.partition_of(other) == partition)
            .take(count)
            .collect()
    }

    /// A user in each partition other than that of `user`. Their ids begin with [`STRANGER`].
    pub fn strangers(&self, user: &str) -> Vec<String> {
        let mut taken = vec![false; self.partitions()];
        taken[self.partition_of(user)] = true;
        let others = (1..).map(|number| format!("{STRANGER}{number}-{user}"));
        let new = |other: &String| !std::mem::replace(&mut taken[self.partition_of(other)], true);
        others.filter(new).take(self.partitions() - 1).collect()
    }

    fn of_partition(&self, partition: usize, name: &str) -> String {
        match self.tags.get(partition) {
            Some(tag) => format!("{}{{{tag}}}:{name}", self.prefix),
            None => format!("{}{name}", self.prefix),
        }
    }
}

/// The partitions of the instances of the tests: `PRESENCE_TEST_PARTITIONS`, or 16 on a shared cluster, or 1.
pub fn partitions_of_tests() -> usize {
    match env::var(PARTITIONS_VARIABLE) {
        Ok(set) => set.parse().expect("a number of partitions"),
        Err(_) if cluster_of_tests().is_some() => PARTITIONS_ON_CLUSTER,
        Err(_) => 1,
    }
}

/// The URL of the Redis Cluster that the tests share: `PRESENCE_TEST_CLUSTER`.
pub(crate) fn cluster_of_tests() -> Option<String> {
    env::var(CLUSTER_VARIABLE).ok()
}

/// The tag of each partition: the first string of base-36 digits, by length and order, that has the first slot of the
/// partition.
fn tags(partitions: usize) -> Vec<String> {
    let mut tags = vec![None; partitions];
    let mut missing = partitions;
    for tag in (1..).flat_map(strings) {
        let slot = slot_of(&tag);
        let partition = slot * partitions / SLOTS;
        if slot == partition * SLOTS / partitions && tags[partition].is_none() {
            tags[partition] = Some(tag);
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into_iter().flatten().collect()
}

/// All strings of `length` base-36 digits, in order.
fn strings(length: u32) -> impl Iterator<Item = String> {
    (0..36_usize.pow(length)).map(move |number| {
        let places = (0..length).rev();
        let digits = places.map(|place| DIGITS[number / 36_usize.pow(place) % 36]);
        digits.map(char::from).collect()
    })
}

/// The hash slot of a whole text, as `CLUSTER KEYSLOT` computes it of a key without a tag: CRC16 of XMODEM.
fn slot_of(text: &str) -> usize {
    let crc = text.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    });
    usize::from(crc) % SLOTS
}
