//! The text of a page cursor.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::{PageCursor, UserId};

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
/// ids carried over to the next page. Ids contain no line breaks.
pub(in crate::http) fn encode(cursor: &PageCursor) -> String {
    let (place, after, carried) = match cursor {
        PageCursor::After(after) => ("after".to_owned(), after, &[][..]),
        PageCursor::Scan {
            carried,
            place,
            beyond,
        } => {
            let place = place.map_or("end".to_owned(), |place| place.to_string());
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

/// Parses the text of a cursor. `None`: the text did not come from [`encode`].
pub(in crate::http) fn decode(text: &str) -> Option<PageCursor> {
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
    let place = match place {
        "after" if carried.is_empty() => return Some(PageCursor::After(after)),
        "end" => None,
        place => Some(place.parse().ok()?),
    };
    Some(PageCursor::Scan {
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

    proptest! {
        #[test]
        fn a_cursor_is_decoded_from_its_text(place: Option<u64>, texts in vec("\\PC{1,30}", 0..4)) {
            let users = texts.iter().filter_map(|text| UserId::new(text).ok());
            let users: Vec<_> = users.collect();
            let beyond = users.first().cloned();
            let cursor = PageCursor::After(beyond.clone());
            prop_assert_eq!(decode(&encode(&cursor)), Some(cursor));
            let cursor = PageCursor::Scan { carried: users, place, beyond };
            prop_assert_eq!(decode(&encode(&cursor)), Some(cursor));
        }

        /// The format is valid, but the seal is not.
        #[test]
        fn an_invented_cursor_is_refused(place: u64, seal: [u8; SEAL_BYTES], sealed: bool) {
            let lines = format!("{place}\nzoe");
            let mut cursor = if sealed { seal.to_vec() } else { Vec::new() };
            cursor.extend(lines.as_bytes());
            prop_assert_eq!(decode(&URL_SAFE_NO_PAD.encode(cursor)), None);
        }

        #[test]
        fn any_text_is_decoded_without_a_panic(text in "\\PC*|[A-Za-z0-9_-]*") {
            let _ = decode(&text);
        }
    }
}
