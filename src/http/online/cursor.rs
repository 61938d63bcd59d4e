//! The text of a page cursor.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::{PageCursor, Partition, Partitions, UserId};

/// The length of the seal, in bytes.
const SEAL_BYTES: usize = 6;

/// The first bytes of a digest of `lines`. The seal detects accidental changes and invented cursors. It is no
/// protection against forgery; the store bounds the cost of any cursor.
fn seal(lines: &[u8]) -> [u8; SEAL_BYTES] {
    let mut context = Context::new(&SHA256);
    context.update(b"presence: cursor of the list\n");
    context.update(lines);
    let digest = context.finish();
    let mut seal = [0; SEAL_BYTES];
    seal.copy_from_slice(&digest.as_ref()[..SEAL_BYTES]);
    seal
}

/// The text of `cursor`: the seal, then one line each for the place to continue at, the id to continue after, and the
/// ids carried over to the next page. Ids contain no line breaks. With several partitions, the place begins with the
/// number of its partition and a slash.
pub(in crate::http) fn encode(cursor: &PageCursor, partitions: Partitions) -> String {
    let (place, after, carried) = match cursor {
        PageCursor::After(after) => ("after".to_owned(), after, &[][..]),
        PageCursor::Scan {
            partition,
            carried,
            place,
            beyond,
        } => {
            let place = match place {
                None => "end".to_owned(),
                Some(place) if partitions == Partitions::ONE => place.to_string(),
                Some(place) => format!("{}/{place}", partition.index()),
            };
            (place, beyond, &carried[..])
        }
    };
    let after = after.as_ref().map_or("", UserId::as_str);
    let carried = carried.iter().map(UserId::as_str);
    let lines: Vec<_> = [&*place, after].into_iter().chain(carried).collect();
    let lines = lines.join("\n");
    let sealed = [&seal(lines.as_bytes()), lines.as_bytes()].concat();
    URL_SAFE_NO_PAD.encode(sealed)
}

/// Parses the text of a cursor. `None`: the text did not come from [`encode`] with the same number of partitions.
pub(in crate::http) fn decode(text: &str, partitions: Partitions) -> Option<PageCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (sealed, lines) = bytes.split_first_chunk()?;
    if *sealed != seal(lines) {
        return None;
    }
    let mut lines = std::str::from_utf8(lines).ok()?.split('\n');
    let place = lines.next()?;
    let after = match lines.next()? {
        "" => None,
        after => Some(UserId::new(after).ok()?),
    };
    let carried: Option<Vec<_>> = lines.map(|line| UserId::new(line).ok()).collect();
    let carried = carried?;
    let (partition, place) = match place {
        "after" if carried.is_empty() => return Some(PageCursor::After(after)),
        "end" => (Partition::FIRST, None),
        place if partitions == Partitions::ONE => (Partition::FIRST, Some(place.parse().ok()?)),
        place => {
            let (partition, place) = place.split_once('/')?;
            let partition = partitions.get(partition.parse().ok()?)?;
            (partition, Some(place.parse().ok()?))
        }
    };
    Some(PageCursor::Scan {
        partition,
        carried,
        place,
        beyond: after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    proptest! {
        #[test]
        fn a_cursor_is_decoded_from_its_text(
            count in select(&[1_u16, 16, 64][..]),
            index: u8,
            place: Option<u64>,
            texts in vec("\\PC{1,30}", 0..4),
        ) {
            let partitions = Partitions::new(count).expect("a number of partitions");
            let partition = partitions.get(usize::from(index) % partitions.count()).expect("one");
            let partition = place.map_or(Partition::FIRST, |_| partition);
            let users = texts.iter().filter_map(|text| UserId::new(text).ok());
            let users: Vec<_> = users.collect();
            let beyond = users.first().cloned();
            let cursor = PageCursor::After(beyond.clone());
            prop_assert_eq!(decode(&encode(&cursor, partitions), partitions), Some(cursor));
            let cursor = PageCursor::Scan { partition, carried: users, place, beyond };
            let text = encode(&cursor, partitions);
            let is_placed = place.is_some();
            prop_assert_eq!(decode(&text, partitions), Some(cursor));
            // A store with fewer partitions does not have the place.
            let other = if count == 1 { Partitions::MOST } else { Partitions::ONE };
            prop_assert_eq!(decode(&text, other).is_none(), is_placed);
        }

        /// The format is valid, but the seal is not.
        #[test]
        fn an_invented_cursor_is_refused(place: u64, seal: [u8; SEAL_BYTES], sealed: bool) {
            let lines = format!("{place}\nzoe");
            let mut cursor = if sealed { seal.to_vec() } else { Vec::new() };
            cursor.extend(lines.as_bytes());
            prop_assert_eq!(decode(&URL_SAFE_NO_PAD.encode(cursor), Partitions::ONE), None);
        }

        #[test]
        fn any_text_is_decoded_without_a_panic(text in "\\PC*|[A-Za-z0-9_-]*") {
            let _ = (decode(&text, Partitions::ONE), decode(&text, Partitions::MOST));
        }
    }
}
