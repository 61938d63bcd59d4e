//! What a worker gathers for one partition before it is sent.

use std::sync::Arc;

use super::call_batcher::CallBatcher;
use super::ping_batcher::PingBatcher;
use crate::store::redis::routing::lanes::Lanes;

/// The batches of one partition.
#[derive(Clone, Debug)]
pub(in crate::store::redis) struct Batchers {
    pub(in crate::store::redis) pings: Arc<PingBatcher>,
    pub(in crate::store::redis) connects: Arc<CallBatcher>,
    pub(in crate::store::redis) disconnects: Arc<CallBatcher>,
    /// The batches that extend seats: the pings of connections that state groups.
    pub(in crate::store::redis) seats: Arc<CallBatcher>,
}

impl Batchers {
    pub(in crate::store::redis) fn new(pings: PingBatcher) -> Self {
        Self {
            pings: Arc::new(pings),
            connects: Arc::default(),
            disconnects: Arc::default(),
            seats: Arc::default(),
        }
    }

    /// The batches of another worker, which go over `lanes`.
    pub(in crate::store::redis) fn with_lanes(&self, lanes: &Arc<Lanes>) -> Self {
        Self::new(self.pings.with_lanes(lanes))
    }
}
