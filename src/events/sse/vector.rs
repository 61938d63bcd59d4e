//! The text of the positions in the histories of several partitions.
//!
//! `v`, and base64url without padding of:
//!
//! 1. one byte: twice the binary logarithm of the number of partitions, plus one if the cursor is complete;
//! 2. six bytes, big-endian: the newest millisecond of all positions;
//! 3. for each partition a number: 0 for the start of its history. For another position twice the age plus one if the
//!    sequence number is not zero, and then the sequence number. The age is one more than the milliseconds from the
//!    position to the newest.
//!
//! A number has seven bits in each byte, the lowest first. All bytes but the last have the highest bit.
//!
//! The text of 64 partitions has 100 to 350 characters: the more events happen, the shorter it is.

use std::fmt;

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::{Partitions, Position};

/// The first character of the text.
const MARK: char = 'v';

/// The bytes of the newest millisecond.
const MILLIS_BYTES: usize = 6;

/// The latest millisecond that the text can express. The store gives no later one in the next eight thousand years.
const LAST_MILLIS: u64 = (1 << (8 * MILLIS_BYTES)) - 1;

/// Bytes before the numbers.
const HEAD_BYTES: usize = 1 + MILLIS_BYTES;

/// The usual bytes of a position.
const POSITION_BYTES: usize = 4;

/// Writes the text of one position for each partition.
pub(crate) fn write(
    text: &mut fmt::Formatter<'_>,
    positions: &[Position],
    complete: bool,
) -> fmt::Result {
    let bytes = encode(positions, complete);
    write!(
        text,
        "{MARK}{}",
        Base64Display::new(&bytes, &URL_SAFE_NO_PAD)
    )
}

/// Reads a text: one position for each partition, and whether the cursor is complete. Positions have exactly one text;
/// any other text gives `None`.
pub(crate) fn parse(text: &str) -> Option<(Vec<Position>, bool)> {
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(MARK)?).ok()?;
    let (first, rest) = bytes.split_first()?;
    let (millis, mut rest) = rest.split_first_chunk::<MILLIS_BYTES>()?;
    let newest = millis
        .iter()
        .fold(0, |newest, byte| newest << 8 | u64::from(*byte));
    let partitions = Partitions::new(1_u16.checked_shl(u32::from(first >> 1))?)?;
    if partitions == Partitions::ONE {
        return None;
    }
    let positions = partitions.all().map(|_| read_position(newest, &mut rest));
    let positions: Vec<_> = positions.collect::<Option<_>>()?;
    let complete = first & 1 == 1;
    // Other texts of the same positions are refused: longer numbers, more bytes, another newest millisecond.
    (encode(&positions, complete) == bytes).then_some((positions, complete))
}

fn encode(positions: &[Position], complete: bool) -> Vec<u8> {
    let newest = positions.iter().map(|position| position.millis).max();
    let newest = newest.unwrap_or(0).min(LAST_MILLIS);
    let mut bytes = Vec::with_capacity(HEAD_BYTES + POSITION_BYTES * positions.len());
    let log2 = positions.len().trailing_zeros().to_le_bytes()[0];
    bytes.push(log2 << 1 | u8::from(complete));
    bytes.extend_from_slice(&newest.to_be_bytes()[size_of::<u64>() - MILLIS_BYTES..]);
    for position in positions {
        push_position(&mut bytes, newest, *position);
    }
    bytes
}

fn push_position(bytes: &mut Vec<u8>, newest: u64, position: Position) {
    if position == Position::START {
        bytes.push(0);
        return;
    }
    let age = newest.saturating_sub(position.millis) + 1;
    let has_sequence = position.sequence > 0;
    push_number(bytes, age * 2 + u64::from(has_sequence));
    if has_sequence {
        push_number(bytes, position.sequence);
    }
}

fn read_position(newest: u64, bytes: &mut &[u8]) -> Option<Position> {
    let number = read_number(bytes)?;
    if number == 0 {
        return Some(Position::START);
    }
    let millis = (newest + 1).checked_sub(number / 2)?;
    let sequence = match number % 2 {
        0 => 0,
        _ => read_number(bytes)?,
    };
    Some(Position { millis, sequence })
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// One position for each partition.
    struct Text<'a>(&'a [Position], bool);

    impl fmt::Display for Text<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write(f, self.0, self.1)
        }
    }

    const NOW: u64 = 1_795_507_200_000;
    const DAY: u64 = 24 * 60 * 60 * 1_000;

    fn positions(partitions: usize, age: u64, sequence: u64) -> Vec<Position> {
        let position = |index: usize| Position {
            millis: NOW - if index == 0 { 0 } else { age },
            sequence,
        };
        (0..partitions).map(position).collect()
    }

    prop_compose! {
        fn any_positions()(
            partitions in select(vec![16_usize, 32, 64, 128, 256]),
        )(
            positions in vec((
                select(vec![0, 1, NOW, LAST_MILLIS]),
                prop_oneof![Just(0), 0..300_u64, 0..DAY, any::<u64>()],
                prop_oneof![Just(0), 0..300_u64, any::<u64>()],
            ), partitions),
        ) -> Vec<Position> {
            let position = |(millis, age, sequence): (u64, u64, u64)| Position {
                millis: millis.saturating_sub(age),
                sequence,
            };
            positions.into_iter().map(position).collect()
        }
    }

    proptest! {
        #[test]
        fn positions_are_read_as_they_were_written(positions in any_positions(), complete: bool) {
            let text = Text(&positions, complete).to_string();
            prop_assert_eq!(parse(&text), Some((positions, complete)));
        }

        #[test]
        fn a_changed_text_is_refused_or_has_other_positions(
            positions in any_positions(),
            place: prop::sample::Index,
            other in "[A-Za-z0-9_=-]",
            more in "[A-Za-z0-9_-]{0,3}",
        ) {
            let text = Text(&positions, true).to_string();
            let place = place.index(text.len());
            let changed = format!("{}{other}{}{more}", &text[..place], &text[place + 1..]);
            if let Some((found, complete)) = parse(&changed) {
                prop_assert_eq!(Text(&found, complete).to_string(), changed.clone());
                prop_assert_eq!(found == positions && complete, changed == text);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|v[A-Za-z0-9_-]{0,100}|vCQ[A-Za-z0-9_-]{0,40}") {
            if let Some((positions, complete)) = parse(&text) {
                prop_assert_eq!(Text(&positions, complete).to_string(), text);
            }
        }

        #[test]
        fn the_text_of_64_partitions_has_at_most_350_characters_if_each_had_an_event_in_a_day(
            ages in vec(0..DAY, 64),
        ) {
            let position = |age| Position { millis: NOW - age, sequence: 0 };
            let positions: Vec<_> = ages.into_iter().map(position).collect();
            prop_assert!(Text(&positions, true).to_string().len() <= 350);
        }
    }

    #[test]
    fn the_text_is_short() {
        let length = |age, sequence| Text(&positions(64, age, sequence), true).to_string().len();
        assert_eq!(length(50, 0), 96);
        assert_eq!(length(1_000, 0), 180);
        assert_eq!(length(10_000, 0), 264);
        assert_eq!(length(DAY, 0), 348);
        assert_eq!(Text(&[Position::START; 16], false).to_string().len(), 32);
    }

    #[test]
    fn a_text_of_no_vector_is_refused() {
        let one = encode(&[Position::START], true);
        let one = format!("v{}", URL_SAFE_NO_PAD.encode(one));
        for text in ["", "v", "v0", "1.2.3", "vCQAAAAAAAA", &one] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
