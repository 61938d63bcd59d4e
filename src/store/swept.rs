//! The result of a sweep of one partition.

use super::error::StoreError;
use crate::model::{Epoch, Partition, Position, Timestamp};

/// What a sweep found and did in one partition.
#[derive(Clone, Debug)]
pub struct Swept {
    /// The partition that was swept.
    pub partition: Partition,
    /// When an instance was last ready to serve before the sweep, or the first use of the data set. `None` if both
    /// times were lost.
    pub former: Option<Timestamp>,
    /// The time of the sweep by the clock of the store.
    pub now: Timestamp,
    /// The data set that was swept.
    pub epoch: Epoch,
    /// The newest position in its history.
    pub newest: Position,
    /// The lateness of each departure that the sweep announced, in milliseconds.
    pub lateness_ms: Vec<u64>,
    /// How many of these departures ended the grace period of a disconnect.
    pub left: usize,
    /// How many users were due, as far as the sweep looked.
    pub overdue: u64,
    /// The number of announced users.
    pub announced: u64,
    /// Whether a departure was held, or a connection is delicate.
    pub is_delicate: bool,
    /// Whether users may be due that did not fit into this sweep.
    pub more: bool,
    /// When the next user is due, if any.
    pub next_due: Option<Timestamp>,
    /// Why a part of the sweep failed. The departures in `lateness_ms` were announced.
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
