//! The memory that the requests and responses of one listener may take together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::in_flight::InFlight;
use super::unserved_requests::UnservedRequests;
use crate::memory_budget::MemoryBudget;

/// A share of the memory, until this is dropped.
pub(super) type MemoryShare = OwnedSemaphorePermit;

/// The limits of requests and responses.
#[derive(Debug)]
pub(super) struct RequestLimits {
    /// HTTP/1 connections with a request.
    pub(super) http1: Arc<InFlight>,
    /// HTTP/2 connections.
    pub(super) http2: Arc<InFlight>,
    /// HTTP/1 requests without a permit.
    pub(super) unserved: Arc<UnservedRequests>,
    /// In KiB: HTTP/2 requests, large request bodies and large responses.
    large: Arc<Semaphore>,
    /// In KiB: the send buffers of streams.
    unsent: Arc<Semaphore>,
}

impl RequestLimits {
    /// Takes the limits from the memory budget.
    pub(super) fn new(budget: MemoryBudget) -> Arc<Self> {
        Arc::new(Self {
            http1: InFlight::http1(budget.http1_requests()),
            http2: InFlight::http2(budget.http2_connections()),
            unserved: UnservedRequests::new(budget.unserved_requests()),
            large: kib_semaphore(budget.large_messages()),
            unsent: kib_semaphore(budget.unsent()),
        })
    }

    /// Takes memory for a request or a response. Returns `None` if too little is left; then clients that keep memory
    /// and make no progress are evicted, so that the next requests succeed.
    pub(super) fn large(&self, bytes: usize) -> Option<MemoryShare> {
        let share = take(&self.large, bytes);
        if share.is_none() {
            self.http1.free_memory();
            self.http2.free_memory();
        }
        share
    }

    /// Evicts connections that wait for their clients, so that new connections can be accepted.
    pub(super) fn free_places(&self) {
        self.http1.free_places();
        self.http2.free_places();
        self.unserved.free_places();
    }

    /// Takes memory for bytes that a stream cannot send yet. Returns `None` if too little is left.
    pub(super) fn unsent(&self, bytes: usize) -> Option<MemoryShare> {
        take(&self.unsent, bytes)
    }
}

fn kib_semaphore(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((bytes / 1_024).min(Semaphore::MAX_PERMITS)))
}

fn take(semaphore: &Arc<Semaphore>, bytes: usize) -> Option<MemoryShare> {
    let kib = u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX);
    Arc::clone(semaphore).try_acquire_many_owned(kib).ok()
}
