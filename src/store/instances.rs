//! What operators see of a store: the instances that share it, its sweeps and its history.

use super::Store;
use super::error::StoreError;
use crate::model::{InstanceReport, StoreSummary};

impl Store {
    /// Records what this instance reports about itself. A report counts for 30 s. A brief report costs less, and
    /// forgets no silent instances.
    pub async fn report(&self, report: &InstanceReport, is_brief: bool) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => {
                store.report(report);
                Ok(())
            }
            Self::Redis(store) => store.report(report, is_brief).await,
        }
    }

    /// Removes the report of the instance with this id.
    pub async fn withdraw(&self, id: &str) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => {
                store.withdraw(id);
                Ok(())
            }
            Self::Redis(store) => store.withdraw(id).await,
        }
    }

    /// The reports that count now, in order of the start of the instance. If more than 1,000 instances share the store,
    /// those that reported last.
    pub async fn instances(&self) -> Result<Vec<InstanceReport>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.instances()),
            Self::Redis(store) => store.instances().await,
        }
    }

    /// The state of the sweeps and of the history.
    pub async fn summary(&self) -> Result<StoreSummary, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.summary()),
            Self::Redis(store) => store.summary().await,
        }
    }
}
