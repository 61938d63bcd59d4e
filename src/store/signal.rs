//! The notifications of a store.

use crate::model::{Entry, Epoch};

/// A notification of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// These entries were appended to the history of this data set.
    Entries(Epoch, Vec<Entry>),
    /// The history has new entries, which the receiver has to read.
    Changed,
    /// The key of a user expired, so a sweep may find a departure.
    Expired,
}
