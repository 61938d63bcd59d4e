//! What operators see of the embedded store. The only instance is this process.

use super::MemoryStore;
use crate::model::{Entry, InstanceReport, StoreSummary, Timestamp};

impl MemoryStore {
    pub(in crate::store) fn report(&self, report: &InstanceReport) {
        *self.instance.lock() = Some(report.clone());
    }

    pub(in crate::store) fn withdraw(&self, id: &str) {
        self.instance.lock().take_if(|report| report.id == id);
    }

    pub(in crate::store) fn instances(&self) -> Vec<InstanceReport> {
        self.instance.lock().iter().cloned().collect()
    }

    pub(in crate::store) fn summary(&self) -> StoreSummary {
        let state = self.state.lock();
        let time = |entry: &Entry| Timestamp::from_millis(entry.position().millis);
        StoreSummary {
            swept_at: state.outages.last_sweep(),
            held_until: state.announced.held_until(),
            oldest: state.events.oldest().map(time),
            newest: state.events.before(None).next().map(time),
        }
    }
}
