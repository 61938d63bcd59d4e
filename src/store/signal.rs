//! The notifications of a store.

use crate::model::{Entry, Epoch, Partition};

/// A notification of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// These entries were appended to the history of this data set of a partition.
    Entries(Partition, Epoch, Vec<Entry>),
    /// The history of the partition has new entries, which the receiver has to read.
    Changed(Partition),
    /// A user of the partition is due earlier than other instances may know.
    Nearer(Partition),
    /// An instance takes part in a move from this store to another one.
    Moving,
    /// The key of a user of the partition expired, so a sweep may find a departure.
    Expired(Partition),
}
