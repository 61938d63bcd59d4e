use std::fmt;

use super::vector;
use crate::model::{Epoch, Partition, Partitions, Position, Vector};

/// What a client has received: the events of each partition up to a position.
///
/// The text is opaque to clients. It depends on the number of partitions of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// Of a store with one partition. The epoch tells any instance that the cursor is from before a loss of data.
    One {
        /// The data set.
        epoch: Epoch,
        /// The last event that the client received.
        position: Position,
        /// Whether the client has its whole snapshot. An incomplete cursor cannot be resumed from.
        complete: bool,
    },
    /// Of a store with several partitions. A loss of data is found by the position before the next event.
    Many {
        /// The last event of each partition that the client received.
        vector: Vector,
        /// Whether the client has its whole snapshot.
        complete: bool,
    },
}

/// The `id` of a message: a complete cursor that borrows its positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id<'a> {
    /// Of a store with one partition.
    One(Epoch, Position),
    /// Of a store with several partitions: one position for each.
    Many(&'a [Position]),
}

/// Why a text cannot be resumed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidCursor {
    /// The text is not a cursor of this service.
    Unknown,
    /// The text is a cursor of a store with another number of partitions.
    OtherLayout,
}

/// The suffix of an incomplete cursor of one partition.
const INCOMPLETE: &str = "~";

impl Cursor {
    /// Returns the cursor of a client that received everything in the only partition up to `position`.
    pub(crate) const fn one(epoch: Epoch, position: Position) -> Self {
        Self::One {
            epoch,
            position,
            complete: true,
        }
    }

    /// Returns the cursor of a client that received everything up to the position of each partition.
    pub(crate) const fn many(vector: Vector) -> Self {
        Self::Many {
            vector,
            complete: true,
        }
    }

    /// Returns the same cursor for a client that has only a part of its snapshot.
    pub(crate) fn incomplete(mut self) -> Self {
        match &mut self {
            Self::One { complete, .. } | Self::Many { complete, .. } => *complete = false,
        }
        self
    }

    /// Whether the client has its whole snapshot.
    pub(crate) const fn is_complete(&self) -> bool {
        match self {
            Self::One { complete, .. } | Self::Many { complete, .. } => *complete,
        }
    }

    /// Returns the data set, if the cursor names it.
    pub(crate) const fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::One { epoch, .. } => Some(*epoch),
            Self::Many { .. } => None,
        }
    }

    /// Returns the position in one history.
    pub(crate) fn position(&self, partition: Partition) -> Position {
        match self {
            Self::One { position, .. } => *position,
            Self::Many { vector, .. } => vector.get(partition),
        }
    }

    /// Reads a cursor of a store with this number of partitions.
    pub(crate) fn parse(text: &str, partitions: Partitions) -> Result<Self, InvalidCursor> {
        let one = parse_one(text);
        let many = vector::parse(text);
        let is_known = one.is_some() || many.is_some();
        let many = many.filter(|(positions, _)| positions.len() == partitions.count());
        let cursor = match partitions {
            Partitions::ONE => one,
            _ => many.map(|(positions, complete)| Self::Many {
                vector: positions.into_iter().collect(),
                complete,
            }),
        };
        cursor.ok_or(if is_known {
            InvalidCursor::OtherLayout
        } else {
            InvalidCursor::Unknown
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One {
                epoch, position, ..
            } => {
                let end = if self.is_complete() { "" } else { INCOMPLETE };
                write!(f, "{}{end}", Id::One(*epoch, *position))
            }
            Self::Many { vector, complete } => {
                let positions: Vec<_> = vector.iter().collect();
                vector::write(f, &positions, *complete)
            }
        }
    }
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(epoch, Position { millis, sequence }) => {
                write!(f, "{:x}.{millis:x}.{sequence:x}", epoch.0)
            }
            Self::Many(positions) => vector::write(f, positions, true),
        }
    }
}

/// Reads a cursor of one partition.
fn parse_one(text: &str) -> Option<Cursor> {
    let numbers = text.strip_suffix(INCOMPLETE).unwrap_or(text);
    let mut numbers = numbers
        .splitn(3, '.')
        .map(|number| u64::from_str_radix(number, 16));
    let mut next = || numbers.next().and_then(Result::ok);
    let cursor = Cursor::One {
        epoch: Epoch(next()?),
        position: Position {
            millis: next()?,
            sequence: next()?,
        },
        complete: !text.ends_with(INCOMPLETE),
    };
    // A cursor has exactly one text: no signs, no leading zeros, no capitals.
    (cursor.to_string() == text).then_some(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn sixteen() -> Partitions {
        Partitions::new(16).expect("a number of partitions")
    }

    proptest! {
        #[test]
        fn a_cursor_is_equal_after_a_round_trip(epoch: u64, millis: u64, sequence: u64, complete: bool) {
            let position = Position { millis, sequence };
            let cursor = Cursor::One { epoch: Epoch(epoch), position, complete };
            let text = cursor.to_string();
            prop_assert_eq!(Cursor::parse(&text, sixteen()), Err(InvalidCursor::OtherLayout));
            prop_assert_eq!(Cursor::parse(&text, Partitions::ONE), Ok(cursor));
        }

        #[test]
        fn a_cursor_of_several_partitions_is_equal_after_a_round_trip(
            positions in vec((0..1_u64 << 48, any::<u64>()), 16),
            complete: bool,
        ) {
            let position = |(millis, sequence)| Position { millis, sequence };
            let positions: Vec<_> = positions.into_iter().map(position).collect();
            let cursor = Cursor::many(positions.iter().copied().collect());
            prop_assert_eq!(Id::Many(&positions).to_string(), cursor.to_string());
            let cursor = if complete { cursor } else { cursor.incomplete() };
            let text = cursor.to_string();
            for other in [1, 32, 64, 128, 256] {
                let other = Partitions::new(other).expect("a number of partitions");
                prop_assert_eq!(Cursor::parse(&text, other), Err(InvalidCursor::OtherLayout));
            }
            prop_assert_eq!(Cursor::parse(&text, sixteen()), Ok(cursor));
        }

        #[test]
        fn any_other_text_is_refused(text in "\\PC*|[0-9a-f.~+-]*|v[A-Za-z0-9_-]*") {
            for partitions in [Partitions::ONE, sixteen()] {
                if let Ok(cursor) = Cursor::parse(&text, partitions) {
                    prop_assert_eq!(cursor.to_string(), text.clone());
                }
            }
        }
    }
}
