//! Streams whose own groups changed.

use std::sync::Arc;

use crate::events::subscriber::Subscriber;

/// A stream that was live until the entry that changes its own groups.
#[derive(Debug)]
pub(crate) struct Regroup {
    pub(crate) subscriber: Arc<Subscriber>,
    /// The generation of the ring and the number of the entry.
    pub(crate) generation: u64,
    pub(crate) number: u64,
}
