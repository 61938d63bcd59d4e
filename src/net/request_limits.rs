//! What the connections of one listener share: how much memory requests and answers may take together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::http2_places::Http2Places;
use super::in_flight::InFlight;
use super::partial_requests::PartialRequests;
use crate::memory_budget::MemoryBudget;

/// A part of a [`RequestLimits`]; dropping it gives it back.
pub(super) type MemoryShare = OwnedSemaphorePermit;

/// Shares that can be taken.
#[derive(Debug)]
pub(crate) struct RequestLimits {
    /// One for each HTTP/1 connection with a request.
    pub(super) places: Arc<InFlight>,
    /// Requests of HTTP/1 that have arrived in part.
    pub(super) gathering: Arc<PartialRequests>,
    /// One for each HTTP/2 connection.
    pub(super) http2: Arc<Http2Places>,
    /// In KiB: requests of HTTP/2, large bodies and large answers.
    bulk: Arc<Semaphore>,
    /// In KiB: what readers of streams have yet to take.
    unsent: Arc<Semaphore>,
}

impl RequestLimits {
    /// As much as the budget has for it.
    pub(crate) fn of(budget: MemoryBudget) -> Arc<Self> {
        let most = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            places: InFlight::of(budget.http1_requests()),
            gathering: PartialRequests::of(budget.incomplete_requests()),
            http2: Http2Places::of(budget.http2_connections()),
            bulk: most(budget.large_messages() / 1_024),
            unsent: most(budget.unsent() / 1_024),
        })
    }

    /// Whether others may be waiting for a place.
    pub(super) fn is_crowded(&self) -> bool {
        self.places.are_taken()
    }

    /// RequestLimits for so many bytes that a client makes this process keep; none where there is too little.
    pub(super) fn bulk(&self, bytes: usize) -> Option<MemoryShare> {
        let bulk = Arc::clone(&self.bulk);
        bulk.try_acquire_many_owned(kib(bytes)).ok()
    }

    /// RequestLimits for so many bytes that a stream cannot send yet; none where there is too little.
    pub(super) fn unsent(&self, bytes: usize) -> Option<MemoryShare> {
        let unsent = Arc::clone(&self.unsent);
        unsent.try_acquire_many_owned(kib(bytes)).ok()
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX)
}
