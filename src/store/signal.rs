//! What a store tells without a call.

use crate::model::{Entry, Epoch};

/// What a store says without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// These entries were appended to the history of this data set.
    Entries(Epoch, Vec<Entry>),
    /// Something was appended: read the history.
    Changed,
    /// Somebody's key expired: a sweep may have work.
    Expired,
}
