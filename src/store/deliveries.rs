//! The calls about the delivery of webhooks.

use super::Store;
use super::error::StoreError;
use crate::model::{Claim, Delivery};

impl Store {
    /// Claims the lease of a receiver of webhooks for 15 s. Only its holder delivers. A receiver that is new begins at
    /// the position `first`; without it, the result is `None`.
    pub async fn claim_delivery(
        &self,
        receiver: &str,
        holder: &str,
        first: Option<&str>,
    ) -> Result<Option<Claim>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.claim_delivery(receiver, holder, first)),
            Self::Redis(store) => store.claim_delivery(receiver, holder, first).await,
        }
    }

    /// Writes how far the delivery to a receiver is, and extends the lease. Returns false and writes nothing if
    /// another holder has the lease.
    pub async fn record_delivery(
        &self,
        receiver: &str,
        holder: &str,
        delivery: &Delivery,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.record_delivery(receiver, holder, delivery)),
            Self::Redis(store) => store.record_delivery(receiver, holder, delivery).await,
        }
    }

    /// Releases the lease of a receiver.
    pub async fn release_delivery(&self, receiver: &str, holder: &str) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => {
                store.release_delivery(receiver, holder);
                Ok(())
            }
            Self::Redis(store) => store.release_delivery(receiver, holder).await,
        }
    }
}
