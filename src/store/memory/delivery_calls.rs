//! The calls about the delivery of webhooks on the embedded store.

use super::MemoryStore;
use crate::model::{Claim, Delivery};

impl MemoryStore {
    pub(in crate::store) fn claim_delivery(
        &self,
        receiver: &str,
        holder: &str,
        first: Option<&str>,
    ) -> Option<Claim> {
        let now = self.now();
        self.deliveries.lock().claim(receiver, holder, first, now)
    }

    pub(in crate::store) fn record_delivery(
        &self,
        receiver: &str,
        holder: &str,
        delivery: &Delivery,
    ) -> bool {
        let now = self.now();
        let mut deliveries = self.deliveries.lock();
        deliveries.record(receiver, holder, delivery, now)
    }

    pub(in crate::store) fn release_delivery(&self, receiver: &str, holder: &str) {
        self.deliveries.lock().release(receiver, holder);
    }
}
