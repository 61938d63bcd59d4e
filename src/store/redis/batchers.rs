//! What a worker gathers for one partition before it is sent.

use std::sync::Arc;

use super::call_batcher::CallBatcher;
use super::lanes::Lanes;
use super::ping_batcher::PingBatcher;

/// The batches of one partition.
#[derive(Clone, Debug)]
pub(super) struct Batchers {
    pub(super) pings: Arc<PingBatcher>,
    pub(super) connects: Arc<CallBatcher>,
    pub(super) disconnects: Arc<CallBatcher>,
    /// The pings in groups.
    pub(super) seats: Arc<CallBatcher>,
}

impl Batchers {
    pub(super) fn new(pings: PingBatcher) -> Self {
        Self {
            pings: Arc::new(pings),
            connects: Arc::default(),
            disconnects: Arc::default(),
            seats: Arc::default(),
        }
    }

    /// The batches of another worker, which go over `lanes`.
    pub(super) fn with_lanes(&self, lanes: &Arc<Lanes>) -> Self {
        Self::new(self.pings.with_lanes(lanes))
    }
}
