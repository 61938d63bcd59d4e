//! The result of a sweep.

use super::StoreError;
use crate::model::{Epoch, Position, Timestamp};

/// What one sweep found.
#[derive(Clone, Debug)]
pub struct Swept {
    /// The store's clock when the sweep ran.
    pub now: Timestamp,
    /// The data set that was swept.
    pub epoch: Epoch,
    /// The newest position in its history.
    pub newest: Position,
    /// How late each departure was that this sweep announced, in milliseconds after its deadline.
    pub lateness_ms: Vec<u64>,
    /// How many announced users there are.
    pub announced: u64,
    /// Whether as many users were due as one sweep takes, or more.
    pub more: bool,
    /// When the next user is due, if there are any and no outage is being waited out.
    pub next_due: Option<Timestamp>,
    /// Why a part of the sweep failed. The departures of `lateness_ms` were announced all the same.
    pub unfinished: Option<StoreError>,
}

impl Swept {
    /// The sweep, if no part of it failed.
    pub(crate) fn finished(self) -> Result<Self, StoreError> {
        match self.unfinished {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}
