//! The error of a store.

use thiserror::Error;

use crate::model::{GroupRefusal, Refusal};

/// Why a call to a store failed.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The store cannot be reached, did not answer in time, or cannot serve now.
    #[error("the store is unreachable: {0}")]
    Unreachable(String),
    /// The servers do not fit the settings. The text names no address, no credential and no reply of a server.
    #[error("the store cannot be used: {0}")]
    Unfit(String),
    /// The store refused the call, because the user of the settings lacks a right. The calls may succeed once the
    /// operator grants it.
    #[error("the store forbids a call: {0}")]
    Forbidden(String),
    /// Too many calls wait for the store.
    #[error("too many calls wait for the store")]
    Overloaded,
    /// The store refused the call, or its answer was invalid. A retry does not help.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The call is not allowed in the state of the user. The store is healthy.
    #[error("{0}")]
    Refused(Refusal),
    /// The write of a group is not allowed. The store is healthy.
    #[error("{0}")]
    GroupRefused(GroupRefusal),
}

impl StoreError {
    /// Whether the store is healthy and answered.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::GroupRefused(_))
    }

    /// The text without the kind of the error.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Unreachable(cause)
            | Self::Unfit(cause)
            | Self::Forbidden(cause)
            | Self::Failed(cause) => cause.clone(),
            Self::Overloaded | Self::Refused(_) | Self::GroupRefused(_) => self.to_string(),
        }
    }

    /// The error of a call that took too long.
    pub(crate) fn too_slow() -> Self {
        Self::Unreachable("it took too long".to_owned())
    }
}
