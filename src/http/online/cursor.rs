//! The cursor of a page as text.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::{PageCursor, UserId};

/// How many bytes of the digest of a cursor come before it.
const SEAL: usize = 6;

/// What a cursor begins with. A cursor that was made up does not have it and is refused, whatever
/// it would have cost to follow. What a forged one may cost is bounded where it is followed.
fn seal(lines: &[u8]) -> [u8; SEAL] {
    let mut context = Context::new(&SHA256);
    context.update(b"presence: cursor of the list\n");
    context.update(lines);
    let digest = context.finish();
    let mut seal = [0; SEAL];
    seal.copy_from_slice(&digest.as_ref()[..SEAL]);
    seal
}

/// The seal, then lines: where to go on, after which id, and with whom to begin; ids have no line
/// breaks.
pub(super) fn encode(cursor: &PageCursor) -> String {
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

pub(super) fn decode(text: &str) -> Option<PageCursor> {
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
        fn a_cursor_survives_text(place: Option<u64>, texts in vec("\\PC{1,30}", 0..4)) {
            let users = texts.iter().filter_map(|text| UserId::new(text).ok());
            let users: Vec<_> = users.collect();
            let beyond = users.first().cloned();
            let cursor = PageCursor::After(beyond.clone());
            prop_assert_eq!(decode(&encode(&cursor)), Some(cursor));
            let cursor = PageCursor::Scan { carried: users, place, beyond };
            prop_assert_eq!(decode(&encode(&cursor)), Some(cursor));
        }

        /// The form is right and the seal is not ours.
        #[test]
        fn a_cursor_that_was_made_up_is_refused(place: u64, seal: [u8; SEAL], sealed: bool) {
            let lines = format!("{place}\nzoe");
            let mut cursor = if sealed { seal.to_vec() } else { Vec::new() };
            cursor.extend(lines.as_bytes());
            prop_assert_eq!(decode(&URL_SAFE_NO_PAD.encode(cursor)), None);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[A-Za-z0-9_-]*") {
            let _ = decode(&text);
        }
    }
}
