use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::Timestamp;

/// Redis's clock, as well as this instance knows it.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// How far Redis's clock is ahead of this machine's, in milliseconds, as of the last sweep.
    lead_ms: AtomicI64,
}

impl Clock {
    pub(super) fn now(&self) -> Timestamp {
        let local = Timestamp::of_system_clock().as_millis();
        Timestamp::from_millis(local.saturating_add_signed(self.lead_ms.load(Ordering::Relaxed)))
    }

    /// Redis read its clock between `asked` and now, so its lead is between two bounds; what is
    /// believed already is kept where it lies between them, since a slow answer says little.
    pub(super) fn set(&self, redis: Timestamp, asked: Timestamp) {
        let answered = Timestamp::of_system_clock();
        let lead_over = |local: Timestamp| {
            let lead = redis.as_millis().wrapping_sub(local.as_millis());
            lead.cast_signed()
        };
        let believed = self.lead_ms.load(Ordering::Relaxed);
        let least = lead_over(answered);
        let lead = believed.clamp(least, lead_over(asked).max(least));
        self.lead_ms.store(lead, Ordering::Relaxed);
    }
}
