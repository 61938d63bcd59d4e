//! Where a receiver stands in the history of a partition.

use std::fmt;
use std::str::FromStr;

use crate::events::Cursor;
use crate::model::{Epoch, Partitions, Position};

/// A position in the history of one partition. Its text is that of the cursor of a store with one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) epoch: Epoch,
    pub(super) position: Position,
}

/// The text is not a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidPlace;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Cursor::one(self.epoch, self.position).fmt(f)
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        match Cursor::parse(text, Partitions::ONE) {
            Ok(Cursor::One {
                epoch, position, ..
            }) => Ok(Self { epoch, position }),
            _ => Err(InvalidPlace),
        }
    }
}
