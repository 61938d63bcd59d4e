use std::fmt;
use std::str::FromStr;

use crate::model::{Epoch, Position};

/// The `id` of a message on a stream: up to where its reader knows everything.
///
/// Opaque to clients. It names the data set, so that a cursor from before a loss of data is
/// recognised by any instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The data set.
    pub epoch: Epoch,
    /// The last event that is known.
    pub position: Position,
    /// Whether the reader has all of its snapshot; else nothing can be resumed from here.
    pub complete: bool,
}

/// The text is not a cursor of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCursor;

/// What the text of an incomplete cursor ends with.
const INCOMPLETE: &str = "~";

impl Cursor {
    /// The cursor of a reader who knows everything up to `position`.
    pub const fn at(epoch: Epoch, position: Position) -> Self {
        Self {
            epoch,
            position,
            complete: true,
        }
    }

    /// The same place, for a reader who has only a part of the snapshot.
    pub const fn incomplete(self) -> Self {
        Self {
            complete: false,
            ..self
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { millis, sequence } = self.position;
        let end = if self.complete { "" } else { INCOMPLETE };
        write!(f, "{:x}.{millis:x}.{sequence:x}{end}", self.epoch.0)
    }
}

impl FromStr for Cursor {
    type Err = UnknownCursor;

    fn from_str(text: &str) -> Result<Self, UnknownCursor> {
        let numbers = text.strip_suffix(INCOMPLETE).unwrap_or(text);
        let mut numbers = numbers
            .splitn(3, '.')
            .map(|number| u64::from_str_radix(number, 16));
        let mut next = || numbers.next().and_then(Result::ok).ok_or(UnknownCursor);
        let cursor = Self {
            epoch: Epoch(next()?),
            position: Position {
                millis: next()?,
                sequence: next()?,
            },
            complete: !text.ends_with(INCOMPLETE),
        };
        // One cursor has one text: no signs, no leading zeros, no capitals.
        if cursor.to_string() == text {
            Ok(cursor)
        } else {
            Err(UnknownCursor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_text(epoch: u64, millis: u64, sequence: u64, complete: bool) {
            let position = Position { millis, sequence };
            let cursor = Cursor { epoch: Epoch(epoch), position, complete };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[0-9a-f.~+-]*") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
