//! How far the delivery of webhooks to a receiver is.

use std::time::Duration;

/// How far the delivery to a receiver is. The store does not interpret the texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The position up to which the receiver has all events.
    pub cursor: String,
    /// The bounds of the batch under way, recorded before the first attempt.
    pub batch: Option<String>,
    /// The failed attempts for this batch.
    pub attempts: u32,
    /// The time until the next attempt.
    pub pause: Duration,
}

/// The result of a claim of the lease of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The caller has the lease for 15 s from now.
    Granted(Delivery),
    /// Another holder has the lease.
    Held {
        /// The position of the receiver.
        cursor: String,
        /// The time until the lease ends, unless its holder claims it again.
        remaining: Duration,
    },
}
