use std::fmt;
use std::str::FromStr;

use crate::model::{Epoch, Position};

/// The `id` of a message: the position up to which the client has received everything.
///
/// The text is opaque to clients. A cursor contains the epoch, so that any instance recognizes a
/// cursor from before a loss of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The data set.
    pub epoch: Epoch,
    /// The last event that the client received.
    pub position: Position,
    /// Whether the client has its whole snapshot. An incomplete cursor cannot be resumed from.
    pub complete: bool,
}

/// The text is not a cursor of this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidCursor;

/// The suffix of an incomplete cursor.
const INCOMPLETE: &str = "~";

impl Cursor {
    /// Returns the cursor of a client that received everything up to `position`.
    pub(crate) const fn at(epoch: Epoch, position: Position) -> Self {
        Self {
            epoch,
            position,
            complete: true,
        }
    }

    /// Returns the same cursor for a client that has only a part of its snapshot.
    pub(crate) const fn incomplete(self) -> Self {
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
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let numbers = text.strip_suffix(INCOMPLETE).unwrap_or(text);
        let mut numbers = numbers
            .splitn(3, '.')
            .map(|number| u64::from_str_radix(number, 16));
        let mut next = || numbers.next().and_then(Result::ok).ok_or(InvalidCursor);
        let cursor = Self {
            epoch: Epoch(next()?),
            position: Position {
                millis: next()?,
                sequence: next()?,
            },
            complete: !text.ends_with(INCOMPLETE),
        };
        // A cursor has exactly one text: no signs, no leading zeros, no capitals.
        if cursor.to_string() == text {
            Ok(cursor)
        } else {
            Err(InvalidCursor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_is_equal_after_a_round_trip(epoch: u64, millis: u64, sequence: u64, complete: bool) {
            let position = Position { millis, sequence };
            let cursor = Cursor { epoch: Epoch(epoch), position, complete };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn any_other_text_is_refused(text in "\\PC*|[0-9a-f.~+-]*") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
