//! The hash tags of the partitions. A Redis Cluster puts keys with the same tag into the same slot.

use crate::model::{Partition, Partitions};

/// The tag of a partition; `None` if the store has only one, whose keys have no tag.
///
/// The slot of the tag is the first slot of the partition. So the tags of a store are among those of every store with
/// more partitions.
pub(in crate::store::redis) fn tag(
    partitions: Partitions,
    partition: Partition,
) -> Option<&'static str> {
    if partitions == Partitions::ONE {
        return None;
    }
    let stride = Partitions::MOST.count() / partitions.count();
    TAGS.get(partition.index() * stride).copied()
}

/// For each of 256 partitions, the shortest and then first text of digits and small letters in its first slot.
const TAGS: [&str; 256] = [
    "1bz", "5n3", "53t", "d5m", "nbd", "7me", "j3j", "3xc", "04s", "a2j", "if5", "0i4", "o4m",
    "cu4", "kec", "2jb", "dlj", "5js", "574", "92e", "3el", "bcu", "74b", "fvs", "003", "4xr",
    "akm", "0mt", "23e", "cqt", "6bk", "x3", "5nw", "dhn", "96a", "530", "bgq", "3ah", "frw",
    "70f", "pt6", "047", "0ip", "4e9", "c1x", "ex", "oin", "6fo", "5j7", "9of", "d1i", "57p",
    "7ia", "fox", "38o", "j7n", "4x6", "00w", "0m0", "4ay", "c58", "a8", "xw", "kag", "17p", "h8q",
    "he6", "1j7", "n7n", "78o", "box", "3ia", "0ay", "4m0", "40w", "0x6", "06", "6nf", "c9q", "mq",
    "130", "hx9", "hav", "1nw", "30f", "brw", "7ah", "fgq", "0e9", "4ip", "447", "81f", "4v",
    "kin", "67a", "i1", "h85", "174", "1js", "her", "bvs", "34b", "fcu", "7el", "4mt", "ekm",
    "0xr", "403", "cdr", "0r", "m5", "63e", "qsu", "13t", "1n3", "5bz", "7xc", "n3j", "3me", "jbd",
    "4i4", "8le", "e2j", "44s", "6jb", "42", "iu", "k4m", "fjl", "7lu", "712", "3ys", "1cj", "hlk",
    "52d", "975", "265", "k94", "cmk", "9k", "05c", "a3z", "4dm", "ebt", "ng4", "7h5", "75r",
    "f3k", "9n2", "5kc", "h5l", "93u", "22u", "6z4", "02bb", "2o2", "m2k", "4yb", "ice", "0ld",
    "7l1", "nc0", "3y7", "71v", "5og", "9j6", "1za", "h1h", "c0h", "dh", "2k6", "kd7", "49n",
    "8x7", "8ax", "any", "7hq", "3d8", "wu7", "756", "hho", "1gn", "931", "5rh", "6zp", "221",
    "yg", "cio", "asv", "01g", "8e8", "aj9", "356", "su7", "7d8", "3hq", "1rh", "h9a", "5gn",
    "daw", "gio", "6ov", "621", "la", "8iq", "afp", "41g", "846", "31v", "7y7", "jc0", "3l1",
    "d8p", "5za", "qkn", "1og", "5f", "6k6", "66q", "g0h", "8m1", "ab0", "i6o", "09n", "b3k",
    "35r", "3h5", "jg4", "092l", "l5l", "1kc", "hdb", "6o2", "1b", "2z4", "62u", "4ld", "8i5",
    "0yb", "i2k", "7ys", "312", "3lu", "bjl", "hym", "12d", "des", "5cj", "6kr", "gmk", "he",
    "665", "abt", "0dm", "802", "45c",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::slot_of;

    /// All texts of digits and small letters with this length, in order.
    fn texts(length: u32) -> impl Iterator<Item = String> {
        let letters = "0123456789abcdefghijklmnopqrstuvwxyz";
        (0..36_usize.pow(length)).map(move |number| {
            let digits = (0..length)
                .rev()
                .map(|place| number / 36_usize.pow(place) % 36);
            digits.map(|digit| &letters[digit..=digit]).collect()
        })
    }

    #[test]
    fn each_tag_is_the_shortest_and_first_in_the_first_slot_of_its_partition() {
        let mut found = vec![None; 256];
        for text in (1..=4).flat_map(texts) {
            let slot = usize::from(slot_of(text.as_bytes()));
            if slot.is_multiple_of(64) {
                found[slot / 64].get_or_insert(text);
            }
        }
        let found: Vec<String> = found.into_iter().flatten().collect();
        assert_eq!(found, TAGS);
        assert_eq!([TAGS[0], TAGS[4], TAGS[8]], ["1bz", "nbd", "04s"]);
    }

    #[test]
    fn the_keys_of_a_partition_are_in_its_first_slot() {
        for partitions in [16, 32, 64, 128, 256].map(|count| Partitions::new(count).expect("one")) {
            for partition in partitions.all() {
                let tag = tag(partitions, partition).expect("a tag");
                assert_eq!(slot_of(tag.as_bytes()), partitions.slot(partition));
            }
        }
        assert_eq!(tag(Partitions::ONE, Partition::FIRST), None);
    }
}
